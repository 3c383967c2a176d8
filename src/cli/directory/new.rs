//! `rollcall directory new`

use clap::{Args, ValueEnum};
use serde_json::json;
use serde_json::value::RawValue;

use super::super::read::listing::{Output, refused};
use super::super::read::print::print_object;
use super::super::read::source::ServerArgs;
use super::super::{Failure, print};
use super::{PATH, at, lines};

/// Create a directory, and print the URL and the token for its identity provider.
///
/// The token is shown only now, and kept nowhere. The log keeps its SHA-256, which does not reveal
/// it.
#[derive(Args)]
#[command(after_help = "\
The API key needs the scope `operate`.

Examples:
  rollcall directory new --name \"Halden Robotics\" --organization org_… --type okta
  rollcall directory new --name Halden --organization org_… --deactivation update")]
pub(super) struct NewArgs {
    /// Its name: 1 to 255 bytes
    #[arg(long)]
    name: String,
    /// The id of its organization
    #[arg(long, value_name = "ID")]
    organization: String,
    /// The identity provider; it changes nothing in how requests are treated
    #[arg(long = "type", value_name = "PROVIDER", default_value = "generic")]
    provider: Provider,
    /// What becomes of a user whom the provider makes inactive: `delete` deletes the directory
    /// user, and another one is created when the user is active again; `update` makes it inactive
    #[arg(long, value_name = "HOW", default_value = "delete")]
    deactivation: Treatment,
    /// A reason for the record
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Provider {
    Generic,
    Azure,
    Okta,
    Onelogin,
    Jumpcloud,
    Pingfederate,
    Rippling,
    Cyberark,
    Sailpoint,
}

impl Provider {
    fn directory_type(self) -> &'static str {
        match self {
            Provider::Generic => "generic scim v2.0",
            Provider::Azure => "azure scim v2.0",
            Provider::Okta => "okta scim v2.0",
            Provider::Onelogin => "onelogin scim v2.0",
            Provider::Jumpcloud => "jump cloud scim v2.0",
            Provider::Pingfederate => "pingfederate scim v2.0",
            Provider::Rippling => "rippling scim v2.0",
            Provider::Cyberark => "cyberark scim v2.0",
            Provider::Sailpoint => "sailpoint scim v2.0",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Treatment {
    Delete,
    Update,
}

impl Treatment {
    fn name(self) -> &'static str {
        match self {
            Treatment::Delete => "delete",
            Treatment::Update => "update",
        }
    }
}

impl NewArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let NewArgs { name, organization, provider, deactivation, note, output, server } = self;
        let client = server.client()?;
        let body = json!({
            "name": name,
            "organization_id": organization,
            "type": provider.directory_type(),
            "deactivation": deactivation.name(),
            "note": note,
        });
        let answer = client.post(PATH, Some(&body))?;
        if answer.status != 201 {
            return Err(refused(&answer, &client, ""));
        }
        if output.json {
            return print_object(answer.json::<&RawValue>()?.get());
        }
        let made = answer.json()?;
        print(&lines(&[
            ("directory", at(&made, "/id")),
            ("url", at(&made, "/scim/url")),
            ("token", at(&made, "/scim/token/token")),
        ]))
    }
}
