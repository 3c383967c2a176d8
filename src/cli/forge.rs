//! The arguments of `rollcall send --forge`.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use rollcall_generator::{EventPlan, ExtraField, Forged};
use rollcall_projections::Millis;

use super::Failure;
use super::moment::moment_ms;
use crate::time;

/// The event to make.
#[derive(Args)]
#[command(next_help_heading = "One forged event")]
pub(super) struct ForgeArgs {
    /// Send one event of this type instead of reading any, e.g. `dsync.user.deleted` or a type
    /// outside dsync. Fields that are not given are empty
    #[arg(long = "forge", value_name = "TYPE", value_parser = filled())]
    event: Option<String>,
    /// The user's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = filled())]
    user: Option<String>,
    /// The group's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = filled())]
    group: Option<String>,
    /// The directory's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = filled())]
    directory: Option<String>,
    /// The organization's id
    #[arg(long, value_name = "ID", requires = "event", value_parser = filled())]
    organization: Option<String>,
    /// The user's address
    #[arg(long, requires = "event")]
    email: Option<String>,
    /// The name of the directory, group or user; a user's is split at its first space
    #[arg(long, requires = "event")]
    name: Option<String>,
    /// The state of the user (active, inactive, suspended) or of the directory
    #[arg(long, requires = "event")]
    state: Option<String>,
    /// One more field of the event's `data`: JSON if it parses as JSON, else text. Dots lead into
    /// objects: custom_attributes.department=Sales, or user.idp_id=1 of a membership. May be given
    /// several times
    #[arg(long = "set", value_name = "FIELD=VALUE", requires = "event", value_parser = extra_field)]
    extra: Vec<ExtraField>,
    /// The moment at which it happened, such as 2026-03-01T10:00Z or 30d; by default now
    #[arg(long, value_name = "TIME", requires = "event", value_parser = moment_ms)]
    at: Option<Millis>,
    /// Print the event's body instead of posting it
    #[arg(long, requires = "event")]
    pub(super) print: bool,
}

fn filled() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

fn extra_field(text: &str) -> Result<ExtraField, String> {
    text.parse().map_err(str::to_owned)
}

impl ForgeArgs {
    /// Makes the event that the arguments describe; `None` without `--forge`.
    pub(super) fn forged(&self) -> Result<Option<Forged>, Failure> {
        let Some(event) = self.event.clone() else { return Ok(None) };
        let mut entropy = [0; 16];
        getrandom::fill(&mut entropy).map_err(Failure::ours)?;
        let now = time::now_ms();
        let plan = EventPlan {
            event,
            user: self.user.clone(),
            group: self.group.clone(),
            directory: self.directory.clone(),
            organization: self.organization.clone(),
            email: self.email.clone(),
            name: self.name.clone(),
            state: self.state.clone(),
            extra: self.extra.clone(),
            at: self.at.unwrap_or(now),
        };
        let forged = plan.forge(now, u128::from_le_bytes(entropy));
        forged.map(Some).map_err(|error| Failure::Caller(error.to_string()))
    }
}
