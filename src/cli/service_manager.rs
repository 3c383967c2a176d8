//! The service manager that started this process, such as systemd.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use parking_lot::Mutex;
use rollcall_projections::Seq;

use crate::time;

/// The variable that names the socket of the service manager.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// The longest that a message may take.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Tells the service manager how the server is doing, by the messages of
/// sd_notify(3). Without a variable that names a socket it does nothing.
///
/// The crate `sd-notify` finds no sockets in the abstract namespace, which systemd may name.
pub(super) struct ServiceManager {
    phase: Mutex<Phase>,
}

/// The part of the server's life that the service manager knows of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A command has a server of its own, which no service manager has started.
    Unknown,
    Starting,
    Ready,
    Stopping,
}

impl ServiceManager {
    /// Reports that the server is starting. Until [`ServiceManager::ready`] a unit of
    /// `Type=notify` is not started.
    pub(super) fn starting() -> ServiceManager {
        send("STATUS=checking and folding the log\n");
        ServiceManager { phase: Mutex::new(Phase::Starting) }
    }

    /// Returns one to which nothing is reported, for commands that have a server of their own.
    pub(super) fn unheard() -> ServiceManager {
        ServiceManager { phase: Mutex::new(Phase::Unknown) }
    }

    /// Reports that the log is folded and everything is answered.
    pub(super) fn ready(&self, head: Seq) {
        let mut phase = self.phase.lock();
        if *phase != Phase::Starting {
            return;
        }
        *phase = Phase::Ready;
        send(&format!("READY=1\nSTATUS=serving, started with {head} records\n"));
    }

    /// Reports a reload around `reload`, which returns false if the new configuration was refused.
    ///
    /// A reload before the server is ready, or after its stop has begun, is not reported: the end
    /// of a reload is reported by the same word as the end of a start.
    pub(super) fn report_reload(&self, reload: impl FnOnce() -> bool) {
        let phase = self.phase.lock();
        if *phase != Phase::Ready {
            reload();
            return;
        }
        send(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", time::monotonic_us()));
        let status = if reload() {
            "serving, with the configuration of the last reload"
        } else {
            "serving, with the configuration before the last reload, which was refused: see the log"
        };
        send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// Reports that the server finishes requests in flight and then ends.
    pub(super) fn stopping(&self) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Unknown {
            return;
        }
        *phase = Phase::Stopping;
        send("STOPPING=1\nSTATUS=finishing requests, then syncing\n");
    }
}

/// Sends assignments, one a line, in one message. A service manager that cannot be reached stops no
/// server.
fn send(message: &str) {
    let Some(name) = env::var_os(NOTIFY_SOCKET).filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send_to(&name, message) {
        tracing::warn!(%error, "the service manager at {NOTIFY_SOCKET} cannot be reached");
    }
}

fn send_to(name: &OsStr, message: &str) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A service manager that does not read must not hold up a start or a stop for ever.
    socket.set_write_timeout(Some(SEND_WITHIN))?;
    socket.connect_addr(&address)?;
    socket.send(message.as_bytes()).map(|_| ())
}
