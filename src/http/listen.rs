//! The addresses that a server listens on: TCP, and sockets of the file system.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Mode, OFlags};

use super::BACKLOG;

/// The mode of a socket that does not say another one: its owner's alone.
const MODE: u32 = 0o600;

/// The longest path of a socket on Linux, in bytes.
const PATH_BYTES_MAX: usize = 107;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// `HOST:PORT`; port 0 takes a free one.
    Tcp(String),
    /// `unix:/path/to.sock`, or with its mode: `unix:/path/to.sock?mode=660`.
    Unix {
        /// The path of the socket.
        path: PathBuf,
        /// The permissions of the socket.
        mode: u32,
    },
}

impl FromStr for ListenOn {
    /// A sentence that says what an address must be.
    type Err = String;

    fn from_str(text: &str) -> Result<ListenOn, String> {
        match text.strip_prefix("unix:") {
            Some(socket) => unix(socket),
            None => tcp(text),
        }
    }
}

fn tcp(text: &str) -> Result<ListenOn, String> {
    let split = text.rsplit_once(':');
    if split.is_some_and(|(host, _)| host.contains(':') && !is_bracketed(host)) {
        return Err("an IPv6 address needs brackets, such as [::1]:8080".into());
    }
    let good = split.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if good {
        return Ok(ListenOn::Tcp(text.into()));
    }
    Err("it must be HOST:PORT, such as 127.0.0.1:8080, or unix:/path/to.sock".into())
}

fn is_bracketed(host: &str) -> bool {
    host.starts_with('[') && host.ends_with(']')
}

fn unix(socket: &str) -> Result<ListenOn, String> {
    let (path, mode) = match socket.split_once('?') {
        None => (socket, Some(MODE)),
        Some((path, query)) => {
            let mode = query.strip_prefix("mode=");
            let mode = mode.filter(|mode| mode.bytes().all(|byte| byte.is_ascii_digit()));
            let mode = mode.and_then(|mode| u32::from_str_radix(mode, 8).ok());
            (path, mode.filter(|mode| (1..=0o777).contains(mode)))
        }
    };
    let mode = mode.ok_or("after `?` it takes only a mode, such as unix:/path/to.sock?mode=660")?;
    if !path.starts_with('/') || path.ends_with('/') {
        return Err("the path of a socket must begin with `/`: unix:/path/to.sock".into());
    }
    if path.len() > PATH_BYTES_MAX {
        let long = path.len();
        return Err(format!(
            "the path of a socket may have at most {PATH_BYTES_MAX} bytes, and this one has {long}"
        ));
    }
    Ok(ListenOn::Unix { path: path.into(), mode })
}

impl fmt::Display for ListenOn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenOn::Tcp(address) => formatter.write_str(address),
            ListenOn::Unix { path, .. } => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// An address that is listened on. A socket is removed when this is dropped.
pub(super) enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

impl Bound {
    /// Returns the address as a URL: `http://127.0.0.1:8080`, or `unix:/path/to.sock`.
    pub(super) fn url(&self) -> String {
        match self {
            Bound::Tcp(_, address) => format!("http://{address}"),
            Bound::Unix(_, file) => format!("unix:{}", file.path.display()),
        }
    }
}

/// The file of a socket that this process made. Removed when dropped, unless another process has
/// replaced it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl ListenOn {
    /// Listens. A socket that no process listens on any more is replaced.
    ///
    /// # Errors
    /// If the address cannot be bound, or another process listens on the socket.
    pub(super) fn bind(&self) -> io::Result<Bound> {
        match self {
            ListenOn::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                rustix::net::listen(&listener, BACKLOG)?;
                let address = listener.local_addr()?;
                Ok(Bound::Tcp(listener, address))
            }
            ListenOn::Unix { path, mode } => bind_socket(path, *mode),
        }
    }

    /// Returns true if only one of the two can be bound. Port 0 is another port each time.
    pub fn conflicts_with(&self, other: &ListenOn) -> bool {
        match (self, other) {
            (ListenOn::Tcp(one), ListenOn::Tcp(other)) => {
                let split = |text: &str| -> Option<(String, u16)> {
                    let (host, port) = text.rsplit_once(':')?;
                    Some((host.to_lowercase(), port.parse().ok().filter(|port| *port > 0)?))
                };
                let every = |host: &str| host == "0.0.0.0" || host == "[::]";
                split(one).zip(split(other)).is_some_and(|((one, port), (other, other_port))| {
                    port == other_port && (one == other || every(&one) || every(&other))
                })
            }
            (ListenOn::Unix { path: one, .. }, ListenOn::Unix { path: other, .. }) => one == other,
            _ => false,
        }
    }

    /// Returns the reason why the address could not be bound; `None` if it could. Leaves nothing
    /// behind, and touches no socket that is there.
    pub fn try_bind(&self) -> Option<io::Error> {
        match self {
            ListenOn::Tcp(address) => TcpListener::bind(address).err(),
            ListenOn::Unix { path, .. } => vacant(path).err().or_else(|| {
                let bound = bind_trial(path).map(|(_, trial)| fs::remove_file(trial));
                bound.err()
            }),
        }
    }
}

/// Binds under another name and renames: no process can connect before the mode is set, and a
/// socket that was left behind is replaced in one step.
fn bind_socket(path: &Path, mode: u32) -> io::Result<Bound> {
    vacant(path)?;
    let (listener, trial) = bind_trial(path)?;
    let made = fs::set_permissions(&trial, Permissions::from_mode(mode))
        .and_then(|()| fs::symlink_metadata(&trial))
        .and_then(|found| fs::rename(&trial, path).map(|()| found));
    let found = made.inspect_err(|_| {
        let _ = fs::remove_file(&trial);
    })?;
    let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
    Ok(Bound::Unix(listener, file))
}

/// Binds under a new name in the same folder. It fails if the name is taken, so that no file of
/// others is ever replaced or removed. The new name is longer than the socket's: one that is too
/// long for the system is bound by way of the opened folder.
fn bind_trial(path: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", hex::encode(random)));
    let trial = PathBuf::from(name);
    if trial.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok((UnixListener::bind(&trial)?, trial));
    }
    let folder = trial.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    Ok((UnixListener::bind(short.join(trial.file_name().unwrap_or_default()))?, trial))
}

/// Connects to a socket without waiting: one whose listener takes no connection would block for
/// ever.
fn connects(path: &Path) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        // The queue of a living listener is full.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a path at which another process listens, or that is not a socket.
fn vacant(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        let says = "a file that is not a socket is there: move it, or name another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, says));
    }
    match connects(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(_) => {
            Err(io::Error::new(ErrorKind::AddrInUse, "another process listens on this socket"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_or_another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let on = |mode| ListenOn::Unix { path: path.clone(), mode };
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a listener leaves its socket");
        assert!(on(0o600).try_bind().is_none());
        let bound = on(0o660).bind().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(on(0o600).bind().err().unwrap().kind(), ErrorKind::AddrInUse);
        assert_eq!(on(0o600).try_bind().unwrap().kind(), ErrorKind::AddrInUse);
        drop(bound);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        fs::write(&path, "x").unwrap();
        assert_eq!(on(0o600).bind().err().unwrap().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn every_path_that_the_system_takes_can_be_bound_and_a_longer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("d".repeat(94 - folder.path().as_os_str().len()));
        fs::create_dir(&inner).unwrap();
        for length in 97..=107 {
            let path = inner.join("s".repeat(length - 96));
            assert_eq!(path.as_os_str().len(), length);
            let on: ListenOn = format!("unix:{}", path.display()).parse().unwrap();
            assert!(on.try_bind().is_none(), "{length}");
            let bound = on.bind().unwrap();
            assert!(connect_at_once(&path).is_some(), "{length}");
            assert!(on.try_bind().is_some(), "{length}");
            drop(bound);
            assert_eq!(fs::read_dir(&inner).unwrap().count(), 0, "{length}");
        }
        let long = format!("unix:{}", inner.join("s".repeat(12)).display());
        assert!(long.parse::<ListenOn>().unwrap_err().contains("at most 107 bytes"));
    }

    #[test]
    fn of_two_addresses_with_one_port_or_socket_only_one_can_be_bound() {
        for (one, other, conflict) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::1]:80", "[::]:80", true),
            ("LOCALHOST:80", "localhost:80", true),
            ("unix:/a.sock", "unix:/a.sock?mode=660", true),
            ("unix:/a.sock", "unix:/b.sock", false),
            ("unix:/a.sock", "127.0.0.1:80", false),
        ] {
            let [a, b]: [ListenOn; 2] = [one, other].map(|text| text.parse().unwrap());
            assert_eq!(a.conflicts_with(&b), conflict, "{one} and {other}");
            assert_eq!(b.conflicts_with(&a), conflict, "{other} and {one}");
        }
    }

    #[test]
    fn a_file_that_is_named_like_a_trial_stays_and_a_full_queue_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let foreign = folder.path().join(format!("s.{}", std::process::id()));
        fs::write(&foreign, "x").unwrap();
        let on = ListenOn::Unix { path: path.clone(), mode: 0o600 };
        assert!(on.try_bind().is_none());
        drop(on.bind().unwrap());
        assert_eq!(fs::read(&foreign).unwrap(), b"x");
        let full = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let mut waiting = Vec::new();
        while let Some(stream) = connect_at_once(&path) {
            waiting.push(stream);
        }
        assert_eq!(on.bind().err().unwrap().kind(), ErrorKind::AddrInUse);
    }

    /// Connects; returns nothing if that would block.
    fn connect_at_once(path: &Path) -> Option<std::os::fd::OwnedFd> {
        use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
        let flags = SocketFlags::NONBLOCK;
        let stream = SocketType::STREAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, stream, flags, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).ok().map(|()| socket)
    }

    #[test]
    fn a_socket_that_another_process_has_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let bound = ListenOn::Unix { path: path.clone(), mode: 0o600 }.bind().unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists());
    }
}
