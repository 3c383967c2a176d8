//! Directories that identity providers push into: who may, what they ask, and what they change.
//!
//! A change is decided under the turn of its directory, over all that is folded, by functions of
//! [`crate::scim`]. Its records are prepared there; the writer only looks if the directory and the
//! token are still there, and appends. What is too large for one batch is rolled forward: see
//! [`unfinished`].

mod list;
mod members;
mod plan;
mod records;
mod resource;
mod turns;
mod unfinished;
mod write;

use super::Engine;
use crate::log::ReadError;
use crate::scim::{Kind, Projection, Refusal};
use crate::verify::ScimCredential;
pub use list::{ScimPage, ScimSearch};
pub use plan::ScimMethod;
pub(super) use resource::ScimDocuments;
use rollcall_projections::Seq;
pub(super) use turns::ScimDirectories;
pub use turns::{LastScimRequest, ScimCounts, ScimTurn};
pub(super) use write::QueuedRecords;
pub use write::{ScimCommand, ScimDone};

/// The holder of a live token of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScimCaller {
    /// The directory that the token opens.
    pub directory: String,
    /// The id of the token.
    pub token: String,
    /// The token in the form in which proofs name it.
    pub credential: ScimCredential,
}

/// How resources are shown to a caller.
#[derive(Clone, Debug)]
pub struct ScimShowing {
    /// The URL of the directory, without a slash at the end.
    pub base: String,
    /// The attributes that are asked for.
    pub projection: Projection,
}

/// A resource as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScimShown {
    /// Its ETag.
    pub version: String,
    /// Its URL.
    pub location: String,
    /// Its JSON; `None` for a group whose members are too many to be shown after each change, and
    /// for a version that is not wanted.
    pub body: Option<String>,
}

/// A request that was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ScimError {
    /// It is refused, and changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The token or the directory has gone meanwhile.
    #[error("the token does not open the directory any more")]
    Unauthorized,
    /// Too many changes of its directory wait.
    #[error("too many changes of the directory wait")]
    TooManyWait,
    /// It was not made durable, or the outcome is unknown.
    #[error("the change could not be made durable")]
    Unavailable,
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Engine {
    /// Returns the holder of a token, if it is live and opens the directory. The cost does not
    /// depend on why it does not.
    pub fn scim_caller(&self, directory: &str, token: &str) -> Option<ScimCaller> {
        let credential = ScimCredential::of(token);
        let now = self.clock.now_ms();
        let views = self.views();
        let found = views.scim().live_token(directory, credential.sha256(), now)?;
        let (directory, token) = (directory.to_owned(), found.id.to_string());
        drop(views);
        self.scim.note_use(&token, now);
        Some(ScimCaller { directory, token, credential })
    }

    /// Returns one resource as it is shown; without its body, which may be large, if its version
    /// is not wanted.
    ///
    /// # Errors
    /// 404 if there is none of this id; if the log cannot be read.
    pub fn scim_item(
        &self,
        caller: &ScimCaller,
        kind: Kind,
        id: &str,
        showing: &ScimShowing,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<ScimShown, ScimError> {
        self.shown_resource(&caller.directory, kind, id, showing, is_wanted)
    }
}

/// Returns the refusal of an id that names nothing.
fn not_found(kind: Kind) -> Refusal {
    let what = match kind {
        Kind::User => "user",
        Kind::Group => "group",
    };
    Refusal::new(404, format!("there is no {what} of this id"))
}

/// Returns the ETag of the record that changed a resource last.
fn version(seq: Seq) -> String {
    format!("W/\"{seq}\"")
}
