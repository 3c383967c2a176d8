//! `[[endpoints]]`: the receivers of webhooks, with the line of each mistake.

use std::net::{IpAddr, ToSocketAddrs};

use ureq::http::Uri;

use super::document::{Fields, Mistakes, Origin, Spot};
use super::given::secret_of_file;
use super::settings::{self, has_good_port, one_of};
use crate::delivery::{Beginning, EndpointSettings, Format, Signer, Wanted, not_public};
use crate::keys::may_be_secret;

/// The keys of an endpoint's table.
const KEYS: [&str; 11] = [
    "name",
    "url",
    "secret_env",
    "secret_file",
    "format",
    "events",
    "organizations",
    "from",
    "ordered",
    "max_in_flight",
    "allow_private",
];

/// The most endpoints, each of which has threads of its own.
const ENDPOINTS_MAX: usize = 32;

/// The webhooks in flight to an unordered endpoint.
const IN_FLIGHT: usize = 16;
const IN_FLIGHT_MAX: usize = 64;

const NAME_CHARS_MAX: usize = 64;

/// An endpoint with the place of its table.
#[derive(Clone)]
pub(in crate::cli) struct EndpointSpot {
    pub(in crate::cli) settings: EndpointSettings,
    pub(super) at: Origin,
}

/// Reads every table of endpoints.
pub(super) fn read(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Vec<EndpointSpot> {
    let mut endpoints: Vec<EndpointSpot> = Vec::new();
    for (number, Spot { value, at }) in fields.tables("endpoints", mistakes).into_iter().enumerate()
    {
        if number == ENDPOINTS_MAX {
            let says = format!("there may be {ENDPOINTS_MAX} endpoints: leave out the others");
            mistakes.add(&at, says);
        }
        let Some(settings) = read_one(&value, &at, mistakes) else { continue };
        match endpoints.iter().find(|other| other.settings.name == settings.name) {
            Some(other) => mistakes.add(
                &at,
                format_args!("the endpoint at {} has the same `name`: give each its own", other.at),
            ),
            None => endpoints.push(EndpointSpot { settings, at }),
        }
    }
    endpoints
}

fn read_one(fields: &Fields<'_>, at: &Origin, mistakes: &mut Mistakes) -> Option<EndpointSettings> {
    let said_so_far = mistakes.sentences().len();
    let mut known = KEYS.map(str::to_owned).to_vec();
    for name in settings::file_keys().filter(|name| fields.table.contains_key(name.as_str())) {
        let says = format!("`{name}` belongs above the first `[[endpoints]]`");
        mistakes.add(&fields.at(&name), says);
        known.push(name);
    }
    fields.refuse_unknown(&known, whole_secret, mistakes);
    let name = required("name", fields, at, mistakes);
    let name = name.and_then(|spot| judged(spot, "name", mistakes, named));
    let allow_private = flag("allow_private", false, fields, mistakes);
    let url = required("url", fields, at, mistakes);
    let url =
        url.and_then(|spot| judged(spot, "url", mistakes, |text| target(text, allow_private)));
    let format = fields.text("format", mistakes);
    let format =
        format.map_or(Some(Format::Workos), |spot| judged(spot, "format", mistakes, format_of));
    let ordered = flag("ordered", true, fields, mistakes);
    let in_flight = in_flight(fields, mistakes);
    let wanted = wanted(fields, mistakes);
    let from = fields.period("from", mistakes);
    let from = from.map_or(Some(Beginning::Now), |spot| judged(spot, "from", mistakes, beginning));
    let secret = secret_of_file("secret", fields, at, mistakes);
    let signer = secret.zip(format).and_then(|(secret, format)| {
        let signer = Signer::new(format, &secret.value);
        signer.map_err(|says| mistakes.add(&secret.at, format_args!("the secret {says}"))).ok()
    });
    if mistakes.sentences().len() > said_so_far {
        return None;
    }
    Some(EndpointSettings {
        name: name?,
        url: url?,
        signer: signer?,
        wanted,
        from: from?,
        max_in_flight: if ordered { 1 } else { in_flight },
        ordered,
        allow_private,
    })
}

/// Says what to do with a secret that is written into the file.
fn whole_secret(name: &str) -> Option<String> {
    (name == "secret").then(|| {
        "the file holds no secret: name its file with `secret_file` or its variable with \
         `secret_env`"
            .into()
    })
}

fn required(
    name: &str,
    fields: &Fields<'_>,
    at: &Origin,
    mistakes: &mut Mistakes,
) -> Option<Spot<String>> {
    if !fields.table.contains_key(name) {
        mistakes.add(at, format_args!("this endpoint has no `{name}`: give it one"));
    }
    fields.text(name, mistakes)
}

/// Judges a text. The judge returns the end of a sentence about it, which does not repeat it.
fn judged<T>(
    spot: Spot<String>,
    name: &str,
    mistakes: &mut Mistakes,
    judge: impl Fn(&str) -> Result<T, String>,
) -> Option<T> {
    judge(&spot.value).map_err(|says| mistakes.add(&spot.at, format_args!("`{name}` {says}"))).ok()
}

fn flag(name: &str, default: bool, fields: &Fields<'_>, mistakes: &mut Mistakes) -> bool {
    fields.switch(name, mistakes).map_or(default, |spot| spot.value == "true")
}

fn named(text: &str) -> Result<String, String> {
    if may_be_secret(text) {
        return Err(
            "begins as secrets do: give another one, and the secret with `secret_file` or \
                    `secret_env`"
                .into(),
        );
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let is_good = (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(plain);
    if is_good {
        return Ok(text.to_owned());
    }
    Err(format!("must have 1 to {NAME_CHARS_MAX} letters, digits, _ and -"))
}

fn format_of(text: &str) -> Result<Format, String> {
    one_of(text, &Format::ALL.map(Format::word))?;
    Format::ALL.into_iter().find(|format| format.word() == text).ok_or_else(String::new)
}

fn beginning(text: &str) -> Result<Beginning, String> {
    match text {
        "now" => Ok(Beginning::Now),
        "start" => Ok(Beginning::Start),
        text => {
            let seq = text.parse().ok().filter(|seq| (1..=u64::from(u32::MAX)).contains(seq));
            seq.map(Beginning::Seq)
                .ok_or_else(|| "must be \"now\", \"start\" or the number of a record".into())
        }
    }
}

fn in_flight(fields: &Fields<'_>, mistakes: &mut Mistakes) -> usize {
    let Some(spot) = fields.number("max_in_flight", mistakes) else { return IN_FLIGHT };
    let number = spot.value.parse().ok().filter(|number| (1..=IN_FLIGHT_MAX).contains(number));
    if number.is_none() {
        let says = format!("`max_in_flight` must be a whole number from 1 to {IN_FLIGHT_MAX}");
        mistakes.add(&spot.at, says);
    }
    number.unwrap_or(IN_FLIGHT)
}

fn wanted(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Wanted {
    let events = match fields.texts("events", mistakes) {
        None => vec!["*".to_owned()],
        Some(globs) => {
            if globs.is_empty() {
                let says = "`events` is empty: leave it out for everything that is sent";
                mistakes.add(&fields.at("events"), says);
            }
            // It is not shown: it may be a secret in a wrong place.
            let unfit = (1..).zip(&globs).filter(|(_, glob)| !Wanted::fits_any(&glob.value));
            for (number, glob) in unfit {
                let says = format!(
                    "`events`: text {number} of {} fits nothing that is sent: name events such as \
                     `dsync.user.*`, or consequences such as `rollcall.access.*`",
                    globs.len()
                );
                mistakes.add(&glob.at, says);
            }
            globs.into_iter().map(|glob| glob.value).collect()
        }
    };
    let organizations = fields.texts("organizations", mistakes);
    if organizations.as_ref().is_some_and(Vec::is_empty) {
        let says = "`organizations` is empty: leave it out for all";
        mistakes.add(&fields.at("organizations"), says);
    }
    let organizations = organizations.map(|ids| ids.into_iter().map(|id| id.value).collect());
    Wanted { events, organizations }
}

/// Reads a URL. Its text is not shown: a part of it may be secret.
fn target(text: &str, allow_private: bool) -> Result<Uri, String> {
    let advice = "must be a URL such as https://app.example.com/webhooks";
    let url = text.parse::<Uri>().map_err(|_| advice)?;
    let scheme = url.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
    let scheme = scheme.ok_or(advice)?;
    let host = url.host().filter(|host| !host.is_empty()).ok_or(advice)?;
    if text.contains('#') {
        return Err(format!("{advice}, without a `#`"));
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("must have no user and no password: the signature says who sends".into());
    }
    if !has_good_port(&url) {
        return Err("must have a port from 1 to 65535".into());
    }
    if allow_private {
        return Ok(url);
    }
    if let Some(what) = not_public_host(host) {
        return Err(format!(
            "is at {what}: give one of the internet, or set `allow_private = true` if the receiver \
             is in your own network"
        ));
    }
    if scheme == "http" {
        return Err(
            "must begin with https: over http anyone on the way could read it. In your own \
                    network, set `allow_private = true`"
                .into(),
        );
    }
    Ok(url)
}

/// Returns the kind of a host that is not public; `None` for one of the internet. A name is not
/// resolved: its address is judged at every connection.
fn not_public_host(host: &str) -> Option<&'static str> {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_lowercase();
    // The zone of an address, as in fe80::1%25eth0, says only which interface leads to it.
    let host = host.split('%').next().unwrap_or_default();
    if host == "localhost" || host.ends_with(".localhost") {
        return Some("a loopback address");
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return not_public(ip);
    }
    // Such as 127.1 or 0x7f000001: the system takes these as addresses, and asks no other for them.
    let last = host.rsplit('.').next().unwrap_or_default();
    if !last.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let found = (host, 0).to_socket_addrs().into_iter().flatten();
    found.map(|address| address.ip()).find_map(not_public)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_url_of_the_internet_is_good_without_leave() {
        for text in [
            "https://app.example.com/webhooks?x=1",
            "https://8.8.8.8",
            "https://app.example.com:8443",
            "https://[2606:4700::1111]/x",
        ] {
            assert!(target(text, false).is_ok(), "{text}");
        }
        for (text, word) in [
            ("https://127.0.0.1/x", "allow_private"),
            ("https://[::1]", "allow_private"),
            ("https://[::1%25lo]/", "allow_private"),
            ("https://[fe80::1%25eth0]/", "allow_private"),
            ("https://[::ffff:10.0.0.1]", "allow_private"),
            ("https://[64:ff9b::10.0.0.1]", "allow_private"),
            ("https://10.1.2.3:8443/x", "allow_private"),
            ("https://169.254.169.254/latest", "allow_private"),
            ("https://100.64.1.1", "allow_private"),
            ("https://0.0.0.0", "allow_private"),
            ("https://127.1", "allow_private"),
            ("https://0x7f000001/", "allow_private"),
            ("https://2130706433", "allow_private"),
            ("https://localhost", "allow_private"),
            ("https://LOCALHOST.", "allow_private"),
            ("https://a.localhost", "allow_private"),
            ("http://app.example.com", "allow_private"),
        ] {
            let says = target(text, false).unwrap_err();
            assert!(says.contains(word), "{text}: {says}");
            assert!(target(text, true).is_ok(), "{text}");
        }
        for (text, word) in [
            ("app.example.com", "https://"),
            ("ftp://app.example.com", "https://"),
            ("https://", "https://"),
            ("https://me:secret@app.example.com", "no password"),
            ("https://app.example.com/#x", "`#`"),
            ("https://app.example.com:99999", "port"),
        ] {
            for allow_private in [false, true] {
                let says = target(text, allow_private).unwrap_err();
                assert!(says.contains(word) && !says.contains("secret"), "{text}: {says}");
            }
        }
    }

    #[test]
    fn a_beginning_is_a_word_or_a_record() {
        assert_eq!(beginning("now"), Ok(Beginning::Now));
        assert_eq!(beginning("start"), Ok(Beginning::Start));
        assert_eq!(beginning("17"), Ok(Beginning::Seq(17)));
        for text in ["0", "-1", "soon", "", "4294967296"] {
            assert!(beginning(text).is_err(), "{text}");
        }
    }
}
