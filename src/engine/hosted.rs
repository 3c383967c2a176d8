//! Directories that identity providers push into, and their tokens: acts of operators, decided by
//! the writer. Each act is recorded with the event of directory sync that tells consumers of it.

use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use parking_lot::Mutex;
use rollcall_projections::{Cut, Deactivation, Millis, ScimToken, Seq, Sight};

use super::{ActError, Engine};
use crate::json;
use crate::keys::Operator;
use crate::verify::{Act, HostedDirectory, HostedToken, Told, new_ulid, token_sha256};

/// The most tokens of a directory that are live at once: the one in use and the next.
const LIVE_TOKENS_MAX: usize = 2;

/// The beginning of each token.
const TOKEN_PREFIX: &str = "scim_";

/// The number of characters of a token that are shown for ever.
const SUFFIX_CHARS: usize = 4;

/// A directory that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDirectory {
    /// Its name.
    pub name: String,
    /// Its organization.
    pub organization: String,
    /// Its type, such as `okta scim v2.0`.
    pub directory_type: String,
    /// The treatment of users whom the identity provider makes inactive.
    pub deactivation: Deactivation,
}

/// A token that was just created. Its secret is kept nowhere; without `Debug` no log line has it.
#[derive(Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The directory.
    pub directory: String,
    /// Its id.
    pub id: String,
    /// The token itself.
    pub token: String,
    /// Its last characters.
    pub suffix: String,
    /// When it was created.
    pub created_at: Millis,
    /// The moment from which on it is no longer taken.
    pub expires_at: Option<Millis>,
}

impl NewToken {
    /// Makes a token for a directory.
    fn make(
        directory: String,
        created_at: Millis,
        expires_at: Option<Millis>,
    ) -> Result<NewToken, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let token = format!("{TOKEN_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(random));
        let suffix = token.get(token.len() - SUFFIX_CHARS..).unwrap_or_default().to_owned();
        let id = new_ulid("directory_token_", created_at)?;
        Ok(NewToken { directory, id, token, suffix, created_at, expires_at })
    }

    /// Returns the acts that record it.
    fn acts(&self, organization: String) -> [Act; 2] {
        let token = HostedToken {
            id: self.id.clone(),
            directory: self.directory.clone(),
            organization,
            suffix: self.suffix.clone(),
            sha256: token_sha256(&self.token),
            expires_at: self.expires_at,
            created_at: None,
        };
        [Act::TokenCreated(token.clone()), Act::Told(Told::TokenCreated(token))]
    }
}

impl Engine {
    /// Creates a directory that identity providers push into, and its first token. Answers once
    /// they are durable and folded.
    ///
    /// # Errors
    /// [`ActError`]; an organization that is not seen is refused.
    pub async fn create_directory(
        &self,
        operator: Operator,
        sight: Sight,
        new: NewDirectory,
        note: Option<String>,
    ) -> Result<NewToken, ActError> {
        let made = Arc::new(Mutex::new(None));
        let result = made.clone();
        let decide = move |_: &Engine, now: Millis| {
            if !sight.sees(&new.organization) {
                return Err(ActError::ForeignOrganization);
            }
            let NewDirectory { name, organization, directory_type, deactivation } = new;
            let id = new_ulid("directory_", now)?;
            let token = NewToken::make(id.clone(), now, None)?;
            let tokens = token.acts(organization.clone());
            *result.lock() = Some(token);
            let created_at = None;
            let directory = HostedDirectory {
                id,
                name,
                organization,
                directory_type,
                deactivation,
                created_at,
            };
            let told = Act::Told(Told::Activated(directory.clone()));
            Ok([Act::DirectoryCreated(directory), told].into_iter().chain(tokens).collect())
        };
        self.acts(operator, note, Box::new(decide)).await?;
        made.lock().take().ok_or(ActError::Unavailable)
    }

    /// Creates another token of a directory. Answers once it is durable and folded.
    ///
    /// # Errors
    /// [`ActError`]; a directory that is not one of SCIM, is deleted or is not seen is unknown, and
    /// at most two tokens are live.
    pub async fn create_token(
        &self,
        operator: Operator,
        sight: Sight,
        directory: String,
        expires_at: Option<Millis>,
        note: Option<String>,
    ) -> Result<NewToken, ActError> {
        let made = Arc::new(Mutex::new(None));
        let result = made.clone();
        let decide = move |engine: &Engine, now: Millis| {
            let organization = engine.organization_of_hosted(&sight, &directory)?;
            let views = engine.views();
            let tokens = views.scim().directory(&directory).map_or(&[][..], |one| &one.tokens);
            if tokens.iter().filter(|token| token.is_live(now)).count() >= LIVE_TOKENS_MAX {
                return Err(ActError::TooManyTokens);
            }
            let token = NewToken::make(directory, now, expires_at)?;
            let acts = token.acts(organization).to_vec();
            *result.lock() = Some(token);
            Ok(acts)
        };
        self.acts(operator, note, Box::new(decide)).await?;
        made.lock().take().ok_or(ActError::Unavailable)
    }

    /// Revokes a token for good. Returns `None` if it is revoked already.
    ///
    /// # Errors
    /// [`ActError`]; a directory as for [`Engine::create_token`], and a token that it never had, is
    /// unknown.
    pub async fn revoke_token(
        &self,
        operator: Operator,
        sight: Sight,
        directory: String,
        token: String,
    ) -> Result<Option<Seq>, ActError> {
        let decide = move |engine: &Engine, _: Millis| {
            let organization = engine.organization_of_hosted(&sight, &directory)?;
            let views = engine.views();
            let known = views.scim().directory(&directory);
            let known = known.and_then(|one| one.token(&token)).ok_or(ActError::UnknownToken)?;
            if known.revoked_at.is_some() {
                return Ok(Vec::new());
            }
            let ScimToken { id, suffix, sha256, created_at, expires_at, .. } = known.clone();
            let token = HostedToken {
                id: id.into(),
                directory,
                organization,
                suffix: suffix.into(),
                sha256,
                expires_at,
                created_at: Some(created_at),
            };
            Ok(vec![Act::TokenRevoked(token.clone()), Act::Told(Told::TokenRevoked(token))])
        };
        Ok(self.acts(operator, None, Box::new(decide)).await?.first().copied())
    }

    /// Returns the organization of a directory that identity providers push into.
    ///
    /// # Errors
    /// [`ActError::UnknownDirectory`] if there is none, or it is not seen.
    fn organization_of_hosted(&self, sight: &Sight, directory: &str) -> Result<String, ActError> {
        let views = self.views();
        let is_there = views.scim().directory(directory).is_some_and(|one| one.is_there());
        let row = views.seen_by(sight).directory(directory, Cut::LATEST).filter(|_| is_there);
        row.map(|row| row.organization).ok_or(ActError::UnknownDirectory)
    }

    /// Returns the earliest moment at which the deletion of a directory may occur, and the event
    /// that tells of it if identity providers push into the directory. Blocks while it reads the
    /// log.
    pub(super) fn end_of_hosted(
        &self,
        id: &str,
        not_before: Millis,
    ) -> Result<(Millis, Option<Act>), ActError> {
        let views = self.views();
        let Some(hosted) = views.scim().directory(id) else { return Ok((not_before, None)) };
        let (deactivation, last_at) = (hosted.deactivation, hosted.last_at);
        let row = views.seen_by(&Sight::All).directory(id, Cut::LATEST);
        drop(views);
        let not_before = not_before.max(last_at.saturating_add(1));
        let Some(row) = row else { return Ok((not_before, None)) };
        let seqs: Vec<Seq> = row.version.iter().map(|version| version.seq).collect();
        let bodies = self.load_bodies(&seqs).map_err(|error| {
            tracing::error!(%error, "the log could not be read");
            ActError::Unavailable
        })?;
        let text = bodies.first().and_then(|body| std::str::from_utf8(body).ok());
        let data = text.and_then(|text| json::present_fields(text, ["data"]));
        let named = data.and_then(|[data]| json::present_fields_of(data, ["type"]));
        let directory_type = named.and_then(|[kind]| json::string(kind)).unwrap_or_default();
        let directory = HostedDirectory {
            id: id.to_owned(),
            name: row.name,
            organization: row.organization,
            directory_type: directory_type.into_owned(),
            deactivation,
            created_at: Some(row.created_at),
        };
        Ok((not_before, Some(Act::Told(Told::Deleted { directory, not_before }))))
    }
}
