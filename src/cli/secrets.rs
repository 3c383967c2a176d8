//! Secrets from the environment, or from files that it names.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::Failure;
use crate::keys::may_be_secret;

/// The longest file of secrets that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The reason why a variable has no secret.
enum SecretError {
    /// Both forms of a variable are set.
    BothForms(String),
    /// The value is not text.
    NotText(String),
    /// The file cannot be read.
    Unread(String),
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Failure {
        Failure::Caller(match error {
            SecretError::BothForms(reason)
            | SecretError::NotText(reason)
            | SecretError::Unread(reason) => reason,
        })
    }
}

/// The kinds of files that may hold secrets.
#[derive(Clone, Copy)]
enum Files {
    /// Regular files, for a server: it reads them again, and must not wait for one.
    Regular,
    /// Also pipes, such as `<(pass rollcall)` in a shell, for a command that reads once.
    RegularOrPipe,
}

/// Returns the secrets of several variables for a command. Each variable holds them itself, or
/// names their file with `_FILE` at the end of its name; commas or lines separate them.
///
/// # Errors
/// The caller's, if both forms of a variable are set, one is not UTF-8, or a file cannot be read.
pub(super) fn secrets(names: &[&str]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for name in names {
        if let Some(text) = text_of(name, Files::RegularOrPipe)? {
            all.extend(split(&text));
        }
    }
    Ok(all)
}

/// Returns the first secret of the first of the variables that has one. Those after it are not
/// read.
///
/// # Errors
/// As [`secrets`].
pub(super) fn first_secret(names: &[&str]) -> Result<Option<String>, Failure> {
    for name in names {
        if let Some(secret) = secrets(&[name])?.into_iter().next() {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}

/// Returns the secrets of several variables for a command that can do without. Warns of each file
/// that cannot be read.
///
/// # Errors
/// The caller's, if both forms of a variable are set, or one is not UTF-8.
pub(super) fn optional_secrets(names: &[&str]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for name in names {
        match text_of(name, Files::RegularOrPipe) {
            Ok(text) => all.extend(text.iter().flat_map(|text| split(text))),
            Err(SecretError::Unread(reason)) => {
                eprintln!("rollcall: {reason}; continuing without the secrets in it");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// The secrets of one variable.
pub(super) struct Found {
    /// The variable that is set: the secrets' own, or that of their file.
    pub(super) variable: Option<String>,
    pub(super) secrets: Vec<String>,
}

/// Returns the secrets of a variable of a server, or of the file that it names with `_FILE` at its
/// end.
///
/// # Errors
/// A sentence, if both forms are set or the file cannot be read.
pub(super) fn find(name: &str) -> Result<Found, String> {
    let text = text_of(name, Files::Regular).map_err(|error| match error {
        SecretError::BothForms(reason)
        | SecretError::NotText(reason)
        | SecretError::Unread(reason) => reason,
    })?;
    let variable =
        text.is_some().then(|| if set(name).is_some() { name.into() } else { file_variable(name) });
    Ok(Found { variable, secrets: text.iter().flat_map(|text| split(text)).collect() })
}

/// Returns the secrets of a file of a server.
///
/// # Errors
/// The end of a sentence that begins with the file.
pub(super) fn in_file(path: &str) -> Result<Vec<String>, String> {
    Ok(split(&read(Path::new(path), Files::Regular)?).collect())
}

/// Returns the name of a file of secrets for a message, with a space in front. What has not the form
/// of a path may be the secret itself, and is not shown.
pub(super) fn shown_path(path: &str) -> String {
    let is_path = path.starts_with('/') || path.contains('.');
    if is_path && !may_be_secret(path) { format!(" `{path}`") } else { String::new() }
}

/// Returns true if a text has the form of a variable's name, and not of a secret.
pub(super) fn is_variable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_') && name.bytes().all(plain)
}

fn file_variable(name: &str) -> String {
    format!("{name}_FILE")
}

/// Returns the value of a variable that is set and not empty.
pub(super) fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns the text of a variable that is set and not empty.
///
/// # Errors
/// The caller's, if it is not UTF-8: it would count as unset otherwise.
pub(super) fn variable(name: &str) -> Result<Option<String>, Failure> {
    let text = set(name).map(OsString::into_string).transpose();
    text.map_err(|_| Failure::Caller(not_text(name)))
}

/// Says that a variable is not text.
pub(super) fn not_text(name: &str) -> String {
    format!("the environment variable {name} is not UTF-8 text")
}

fn text_of(name: &str, files: Files) -> Result<Option<String>, SecretError> {
    let file_variable = file_variable(name);
    match (set(name), set(&file_variable)) {
        (Some(_), Some(_)) => Err(SecretError::BothForms(format!(
            "both {name} and {file_variable} are set: unset one of them"
        ))),
        (None, Some(path)) => read(Path::new(&path), files).map(Some).map_err(|what| {
            let path = shown_path(&path.to_string_lossy());
            SecretError::Unread(format!("the file{path} that {file_variable} names {what}"))
        }),
        (Some(value), None) => {
            let text = value.into_string();
            text.map(Some).map_err(|_| SecretError::NotText(not_text(name)))
        }
        (None, None) => Ok(None),
    }
}

/// Reads a file of secrets. Another kind of file may have no end, or block until it is written.
fn read(path: &Path, files: Files) -> Result<String, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let file_type = std::fs::metadata(path).map_err(unreadable)?.file_type();
    match files {
        Files::Regular if !file_type.is_file() => return Err("is not a regular file".into()),
        Files::RegularOrPipe if !file_type.is_file() && !file_type.is_fifo() => {
            return Err("is not a regular file or a pipe".into());
        }
        Files::Regular | Files::RegularOrPipe => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("is larger than 64 KiB: it must hold only secrets".into());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8: it must hold only secrets".into())
}

fn split(text: &str) -> impl Iterator<Item = String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split([',', '\n', '\r']).map(|part| part.trim().to_owned()).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_lines_separate_secrets_and_space_around_them_is_not_theirs() {
        let parts: Vec<String> = split("\u{feff} a,b \r\n\n c\t,, d e\n").collect();
        assert_eq!(parts, ["a", "b", "c", "d e"]);
    }
}
