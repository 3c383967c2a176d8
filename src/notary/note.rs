//! Checkpoints: signed statements of a log's size and tree hash. The text is that of
//! <https://c2sp.org/tlog-checkpoint>, the signatures those of <https://c2sp.org/signed-note>, so
//! tools for other transparency logs read them as well.

use std::fmt;

use base64::prelude::*;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rollcall_projections::Seq;
use sha2::{Digest, Sha256};

/// The longest note that is read, in bytes. A hundred signatures are less.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// The largest number of signatures in a note.
const SIGNATURES_MAX: usize = 100;

/// The specification's number for Ed25519.
const ED25519: u8 = 1;

/// A checkpoint: it states that the first `size` records of a log have this tree hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log.
    pub origin: String,
    /// The number of records.
    pub size: Seq,
    /// Their RFC 6962 tree hash.
    pub root: [u8; 32],
}

/// A note whose signatures are not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The signed text, its last line break included.
    text: String,
    signatures: Vec<SignatureLine>,
    checkpoint: Checkpoint,
}

/// A signature line: the signer that it claims, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SignatureLine {
    name: String,
    hash: [u8; 4],
    signature: Vec<u8>,
}

/// Why a note is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not a signed checkpoint.
    #[error("it is not a signed checkpoint: {0}")]
    Malformed(&'static str),
    /// None of the keys has signed it.
    #[error("none of the keys given has signed it; it names {0}")]
    Unsigned(String),
    /// A signature in the name of a key is not valid.
    #[error("the signature of `{0}` does not match its text")]
    Forged(String),
}

/// Why a text is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// It has another form.
    #[error("it is not of the form `name+hash+key`")]
    Malformed,
    /// It is of an unknown kind.
    #[error("it is not an Ed25519 key")]
    Kind,
    /// Its hash is not that of its name and key.
    #[error("its hash does not match its name and key: a character is wrong")]
    Hash,
}

/// A public key with the name under which it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Verifier {
    pub(super) fn new(name: &str, key: VerifyingKey) -> Verifier {
        Verifier { name: name.to_owned(), key }
    }

    /// Reads `name+hash+key`, the form that <https://c2sp.org/signed-note#verifier-keys> describes.
    ///
    /// # Errors
    /// [`VerifierError`].
    pub fn parse(text: &str) -> Result<Verifier, VerifierError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VerifierError::Malformed);
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| VerifierError::Malformed)?;
        let (&kind, key) = key.split_first().ok_or(VerifierError::Malformed)?;
        if !is_name(name) || hash.len() != 8 {
            return Err(VerifierError::Malformed);
        }
        if kind != ED25519 {
            return Err(VerifierError::Kind);
        }
        let key: &[u8; 32] = key.try_into().map_err(|_| VerifierError::Malformed)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| VerifierError::Malformed)?;
        let verifier = Verifier::new(name, key);
        if hex::encode(verifier.hash()) == hash.to_ascii_lowercase() {
            Ok(verifier)
        } else {
            Err(VerifierError::Hash)
        }
    }

    /// Returns the name under which it signs: a log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its hash: the first 4 bytes of SHA-256(name ‖ line feed ‖ 01 ‖ key).
    pub fn hash(&self) -> [u8; 4] {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key)
            .finalize()
            .into();
        digest.first_chunk().copied().unwrap_or_default()
    }

    fn has_signed(&self, line: &SignatureLine, text: &str) -> bool {
        let signature = Signature::from_slice(&line.signature);
        signature.is_ok_and(|signature| self.key.verify_strict(text.as_bytes(), &signature).is_ok())
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode([&[ED25519][..], self.key.as_bytes()].concat());
        write!(formatter, "{}+{}+{key}", self.name, hex::encode(self.hash()))
    }
}

/// Returns whether a text is a name: it is not empty and has no white space and no plus sign.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

impl Checkpoint {
    /// Returns the text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }

    /// Reads a text. Lines after the third are extensions, which are signed and ignored here.
    fn parse(text: &str) -> Result<Checkpoint, NoteError> {
        let malformed = |what| NoteError::Malformed(what);
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let origin = lines
            .next()
            .filter(|origin| !origin.is_empty())
            .ok_or(malformed("its first line names no log"))?;
        let size = lines
            .next()
            .and_then(|size| size.parse::<Seq>().ok().filter(|number| number.to_string() == size));
        let size = size.ok_or(malformed("its second line is not a size"))?;
        let root = lines
            .next()
            .and_then(|root| BASE64_STANDARD.decode(root).ok())
            .and_then(|root| root.try_into().ok());
        let root = root.ok_or(malformed("its third line is not a tree hash"))?;
        if lines.any(str::is_empty) {
            return Err(malformed("there is an empty line in its text"));
        }
        Ok(Checkpoint { origin: origin.to_owned(), size, root })
    }
}

impl Note {
    /// Reads a note. Signatures of unknown keys may be among its lines.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        let malformed = |what| NoteError::Malformed(what);
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8 text"))?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(malformed("it has a control character"));
        }
        let split = note
            .rfind("\n\n")
            .ok_or(malformed("no empty line separates its text from its signatures"))?;
        let (text, lines) = note.split_at_checked(split + 1).ok_or(malformed("it is cut off"))?;
        let lines = lines
            .strip_prefix('\n')
            .and_then(|lines| lines.strip_suffix('\n'))
            .ok_or(malformed("its last line is cut off"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            signatures.push(
                SignatureLine::parse(line)
                    .ok_or(malformed("a line after its text is not a signature"))?,
            );
        }
        if signatures.len() > SIGNATURES_MAX {
            return Err(malformed("it has too many signatures"));
        }
        Ok(Note { checkpoint: Checkpoint::parse(text)?, text: text.to_owned(), signatures })
    }

    /// Returns its checkpoint, if one of `keys` has signed it under the name of the log in it.
    ///
    /// # Errors
    /// If none has, or a signature in the name of one of them is not valid.
    pub fn open(&self, keys: &[Verifier]) -> Result<&Checkpoint, NoteError> {
        let mut signed = false;
        for line in &self.signatures {
            let Some(key) =
                keys.iter().find(|key| key.name == line.name && key.hash() == line.hash)
            else {
                continue;
            };
            if !key.has_signed(line, &self.text) {
                return Err(NoteError::Forged(format!("{}+{}", line.name, hex::encode(line.hash))));
            }
            // A key signs only for the log whose name it has.
            signed |= key.name == self.checkpoint.origin;
        }
        if signed { Ok(&self.checkpoint) } else { Err(NoteError::Unsigned(self.signers())) }
    }

    /// Returns its checkpoint without verifying a signature.
    pub fn claims(&self) -> &Checkpoint {
        &self.checkpoint
    }

    fn signers(&self) -> String {
        let names: Vec<String> = self
            .signatures
            .iter()
            .map(|line| format!("`{}+{}`", line.name, hex::encode(line.hash)))
            .collect();
        names.join(", ")
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Option<SignatureLine> {
        let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
        let signature = BASE64_STANDARD.decode(signature).ok()?;
        let (hash, signature) = signature.split_first_chunk::<4>()?;
        let is_line = is_name(name) && !signature.is_empty();
        is_line.then(|| SignatureLine {
            name: name.to_owned(),
            hash: *hash,
            signature: signature.to_owned(),
        })
    }
}

/// Signs a checkpoint: adds a line for each of `keys`, which sign under the log's name.
pub(super) fn sign(checkpoint: &Checkpoint, keys: &[&SigningKey]) -> String {
    let text = checkpoint.text();
    let lines = keys.iter().map(|key| {
        let hash = Verifier::new(&checkpoint.origin, key.verifying_key()).hash();
        let signature = [&hash[..], &key.sign(text.as_bytes()).to_bytes()].concat();
        format!("— {} {}\n", checkpoint.origin, BASE64_STANDARD.encode(signature))
    });
    format!("{text}\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of Go's golang.org/x/mod/sumdb/note.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn signed(seeds: &[u8]) -> String {
        let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
        let checkpoint = Checkpoint { origin: "rollcall/a".into(), size: 12, root: [7; 32] };
        sign(&checkpoint, &keys.iter().collect::<Vec<_>>())
    }

    fn verifier(seed: u8) -> Verifier {
        Verifier::new("rollcall/a", key(seed).verifying_key())
    }

    #[test]
    fn a_key_and_a_signature_of_go_are_read() {
        let verifier = Verifier::parse(GO_KEY).unwrap();
        assert_eq!((verifier.name(), verifier.to_string().as_str()), ("PeterNeumann", GO_KEY));
        let text = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n";
        let line = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZS\
            NXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let line = SignatureLine::parse(line).unwrap();
        assert_eq!(line.hash, verifier.hash());
        assert!(verifier.has_signed(&line, text));
        assert!(!verifier.has_signed(&line, &text.replace("answer", "Answer")));
    }

    #[test]
    fn a_key_with_a_wrong_character_is_refused() {
        for (from, to, error) in [
            ("PeterNeumann", "PeterNeuman", VerifierError::Hash),
            ("PeterNeumann", "Peter Neumann", VerifierError::Malformed),
            ("PeterNeumann", "", VerifierError::Malformed),
            ("c74f20a3", "c74f20a4", VerifierError::Hash),
            ("c74f20a3", "c74f20", VerifierError::Malformed),
            ("+ARpc", "+AhpC", VerifierError::Kind),
            ("10TW", "10TX", VerifierError::Malformed),
            ("+ARpc", "", VerifierError::Malformed),
            ("10TW", "", VerifierError::Malformed),
        ] {
            assert_eq!(Verifier::parse(&GO_KEY.replace(from, to)), Err(error), "{from} -> {to}");
        }
    }

    #[test]
    fn a_checkpoint_is_accepted_when_a_known_key_has_signed_it() {
        let note = signed(&[1]);
        assert!(
            note.starts_with(
                "rollcall/a\n12\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n— rollcall/a "
            ),
            "{note}"
        );
        let read = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(
            read.open(&[verifier(2), verifier(1)]).unwrap(),
            &Checkpoint { origin: "rollcall/a".into(), size: 12, root: [7; 32] }
        );
        assert!(matches!(read.open(&[verifier(2)]), Err(NoteError::Unsigned(_))));
        assert!(matches!(read.open(&[]), Err(NoteError::Unsigned(_))));
        // The same key under the name of another log is another key.
        let other = Verifier::new("rollcall/b", key(1).verifying_key());
        assert!(matches!(read.open(&[other]), Err(NoteError::Unsigned(_))));
    }

    #[test]
    fn a_key_signs_for_its_own_log_only() {
        let text = "rollcall/b\n12\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
        let signature =
            [&verifier(1).hash()[..], &key(1).sign(text.as_bytes()).to_bytes()].concat();
        let note = format!("{text}\n— rollcall/a {}\n", BASE64_STANDARD.encode(signature));
        assert!(matches!(
            Note::parse(note.as_bytes()).unwrap().open(&[verifier(1)]),
            Err(NoteError::Unsigned(_))
        ));
    }

    #[test]
    fn no_character_of_a_note_can_be_changed() {
        let note = signed(&[1]);
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= 1;
            let opened = Note::parse(&changed).and_then(|note| note.open(&[verifier(1)]).cloned());
            assert!(opened.is_err(), "byte {at}");
        }
    }

    #[test]
    fn unknown_lines_are_tolerated_where_the_specifications_allow_them() {
        let stranger = "— witness.example/w AAAAAQI=\n";
        let note = signed(&[1, 2]) + stranger;
        let read = Note::parse(note.as_bytes()).unwrap();
        for known in [1, 2] {
            assert_eq!(read.open(&[verifier(known)]).unwrap().size, 12);
        }
        let text = "rollcall/a\n12\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\nan extension\n";
        let signature =
            [&verifier(1).hash()[..], &key(1).sign(text.as_bytes()).to_bytes()].concat();
        let note =
            format!("{text}\n{stranger}— rollcall/a {}\n", BASE64_STANDARD.encode(signature));
        assert_eq!(Note::parse(note.as_bytes()).unwrap().open(&[verifier(1)]).unwrap().size, 12);
    }

    #[test]
    fn a_text_that_is_not_a_checkpoint_is_refused() {
        let note = signed(&[1]);
        let (text, lines) = note.split_once("\n\n").unwrap();
        for wrong in [
            String::new(),
            text.to_owned(),
            note.trim_end().to_owned(),
            note.replace("12", "012"),
            note.replace("12", "-1"),
            note.replace("12", "18446744073709551616"),
            note.replace("rollcall/a\n", "\n"),
            note.replace("BwcH", "Bwc"),
            note.replace("BwcH", "BwcHBwcH"),
            note.replace("12\n", "12\r\n"),
            format!("{text}\n\nmore\n\n{lines}"),
            format!("{text}\n\n"),
            format!("{text}\n\n— rollcall/a AAAAAA==\n"),
            format!("{text}\n\n- rollcall/a AAAAAQI=\n"),
            format!("{text}\n\n{}", lines.repeat(101)),
            format!("{text}\n{}\n\n{lines}", "x".repeat(NOTE_BYTES_MAX)),
        ] {
            assert!(
                matches!(Note::parse(wrong.as_bytes()), Err(NoteError::Malformed(_))),
                "{wrong}"
            );
        }
        assert!(Note::parse(b"\xff").is_err());
    }
}
