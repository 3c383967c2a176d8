//! The other ids of a user: that of the application, and those of the same person before and after.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::super::Failure;
use super::super::objects::parse;

/// The other ids of a user, as its periods of access say.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct OtherIds {
    pub(super) app_user_id: Option<String>,
    pub(super) succeeded_by: Option<Successor>,
    pub(super) preceded_by: Option<Predecessor>,
}

/// The same person after the user's end.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Successor {
    pub(super) user_id: String,
    pub(super) since: String,
}

/// The same person before its end.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Predecessor {
    pub(super) user_id: String,
    pub(super) until: String,
}

impl OtherIds {
    /// Reads them off the periods, which all say the same.
    ///
    /// # Errors
    /// Ours, if the server sent something else.
    pub(super) fn of(periods: &[Box<RawValue>]) -> Result<OtherIds, Failure> {
        periods.last().map_or_else(|| Ok(OtherIds::default()), |period| parse(period))
    }

    /// Returns the fields for programs.
    pub(super) fn fields(&self) -> [(&'static str, Value); 3] {
        let successor = self
            .succeeded_by
            .as_ref()
            .map(|Successor { user_id, since }| json!({ "user_id": user_id, "since": since }));
        let predecessor = self
            .preceded_by
            .as_ref()
            .map(|Predecessor { user_id, until }| json!({ "user_id": user_id, "until": until }));
        [
            ("app_user_id", json!(self.app_user_id)),
            ("succeeded_by", json!(successor)),
            ("preceded_by", json!(predecessor)),
        ]
    }
}
