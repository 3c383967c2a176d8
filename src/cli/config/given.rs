//! The values that options, variables and the file give, in this order of precedence.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{FalseyValueParser, OsStringValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::document::{Fields, Mistakes, Origin, Source, Spot};
use super::endpoints::{self, EndpointSpot};
use super::keys::{self, KeySpot};
use super::settings::{self, Holds, SETTINGS, Setting};
use crate::cli::secrets::{self, Found};

/// The variable that names the file.
pub(super) const CONFIG: &str = "ROLLCALL_CONFIG";

/// The options of `serve`, which `config` takes as well.
#[derive(Clone)]
pub(in crate::cli) struct Flags {
    config: Option<PathBuf>,
    given: Vec<(&'static Setting, Vec<OsString>)>,
}

/// The values of a setting, with the places that they come from.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) setting: &'static Setting,
    pub(super) values: Vec<Spot<OsString>>,
}

/// The configuration as it was given: each value is from the place that precedes the others, and
/// none is judged yet.
pub(in crate::cli) struct Given {
    /// The file, if one is named.
    pub(super) file: Option<PathBuf>,
    pub(super) resolved: Vec<Resolved>,
    pub(super) keys: Vec<KeySpot>,
    /// The receivers of webhooks.
    pub(super) endpoints: Vec<EndpointSpot>,
    /// What is wrong with them. A reload does not take them.
    pub(super) endpoint_mistakes: Mistakes,
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(OsStringValueParser::new())
            .env(CONFIG)
            .hide_env_values(true)
            .help("File with the settings and the API keys");
        SETTINGS.iter().filter_map(option).fold(command.arg(config), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

/// Returns the option of a setting. clap names its variable and default in the help; which value
/// holds is decided here.
fn option(setting: &Setting) -> Option<Arg> {
    let mut help = setting.about.to_owned();
    if setting.holds.is_list() {
        help.push_str(". Commas separate several in the variable");
    }
    let arg = Arg::new(setting.name)
        .long(setting.flag?)
        .help(help)
        .env(setting.variable)
        .hide_env_values(true);
    if let Holds::Switch = setting.holds {
        return Some(arg.action(ArgAction::SetTrue).value_parser(FalseyValueParser::new()));
    }
    let arg = arg
        .value_name(setting.value_name)
        .action(if setting.holds.is_list() { ArgAction::Append } else { ArgAction::Set })
        .value_parser(OsStringValueParser::new());
    Some(if setting.default.is_empty() { arg } else { arg.default_value(setting.default) })
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, clap::Error> {
        let mut given = Vec::new();
        for setting in SETTINGS.iter().filter(|setting| setting.flag.is_some()) {
            if matches.value_source(setting.name) != Some(ValueSource::CommandLine) {
                continue;
            }
            let values = match setting.holds {
                Holds::Switch => vec!["true".into()],
                _ => matches
                    .get_raw(setting.name)
                    .into_iter()
                    .flatten()
                    .map(OsStr::to_owned)
                    .collect(),
            };
            given.push((setting, values));
        }
        Ok(Flags { config: matches.get_one::<OsString>("config").map(PathBuf::from), given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Flags {
    /// Gathers every value, and the mistakes of the file's form and types.
    pub(super) fn gather(&self, mistakes: &mut Mistakes) -> Given {
        let file = self.config.clone().filter(|file| !file.as_os_str().is_empty());
        let source = file
            .as_deref()
            .and_then(|path| Source::read(path).map_err(|says| mistakes.add_whole(says)).ok());
        let table = source.as_ref().and_then(|source| source.parse(mistakes));
        let empty = Source::of("".into(), String::new());
        let nothing = Default::default();
        let fields = Fields {
            source: source.as_ref().unwrap_or(&empty),
            table: table.as_ref().unwrap_or(&nothing),
        };
        fields.refuse_unknown(&file_keys(), secret_in_file, mistakes);
        let mut resolved = Vec::new();
        for setting in SETTINGS {
            let values = self.values(setting, &fields, mistakes);
            resolved.push(Resolved { setting, values });
        }
        let mut endpoint_mistakes = Mistakes::default();
        let endpoints = endpoints::read(&fields, &mut endpoint_mistakes);
        Given { file, resolved, keys: keys::read(&fields, mistakes), endpoints, endpoint_mistakes }
    }

    fn values(
        &self,
        setting: &'static Setting,
        fields: &Fields<'_>,
        mistakes: &mut Mistakes,
    ) -> Vec<Spot<OsString>> {
        if let Holds::Secrets(variables) = setting.holds {
            return secrets_of(setting, variables, fields, mistakes);
        }
        // The file is read in any case, so that its mistakes show.
        let in_file = in_file(setting, fields, mistakes);
        if let Some((_, values)) = self.given.iter().find(|(other, _)| other.name == setting.name) {
            let at = Origin::Flag(setting.flag.unwrap_or_default());
            return values.iter().map(|value| spot(value.clone(), &at)).collect();
        }
        in_variable(setting).or(in_file).unwrap_or_else(|| {
            let default = Some(setting.default).filter(|default| !default.is_empty());
            default.into_iter().map(|text| spot(text.into(), &Origin::Default)).collect()
        })
    }
}

fn spot(value: OsString, at: &Origin) -> Spot<OsString> {
    Spot { value, at: at.clone() }
}

/// Returns every key of the file.
fn file_keys() -> Vec<String> {
    settings::file_keys().chain(["keys", "endpoints"].map(str::to_owned)).collect()
}

/// Says where a secret goes that was written into the file, and which key an option's name is.
fn secret_in_file(name: &str) -> Option<String> {
    let secret = SETTINGS
        .iter()
        .filter(|setting| matches!(setting.holds, Holds::Secrets(_)))
        .find(|setting| setting.name == name);
    if secret.is_some() {
        return Some(format!(
            "the file holds no secret: name its file with `{name}_file` or its variable with \
             `{name}_env`"
        ));
    }
    let of_flag = SETTINGS.iter().find(|setting| {
        setting.flag.is_some_and(|flag| flag == name || flag.replace('-', "_") == name)
    });
    of_flag.map(|setting| format!("did you mean `{}`?", setting.name))
}

/// Returns the values of the option's variable. Commas separate those of a list.
fn in_variable(setting: &Setting) -> Option<Vec<Spot<OsString>>> {
    let value = secrets::set(setting.variable)?;
    let at = Origin::Variable(setting.variable.into());
    let texts: Vec<OsString> = match value.to_str() {
        Some(text) if setting.holds.is_list() => {
            text.split(',').map(|item| item.trim().into()).collect()
        }
        Some(text) if matches!(setting.holds, Holds::Switch) => vec![yes_or_no(text).into()],
        _ => vec![value],
    };
    Some(texts.into_iter().map(|text| spot(text, &at)).collect())
}

/// Reads a switch of a variable: everything means yes but the usual words for no.
fn yes_or_no(text: &str) -> &'static str {
    let no = ["0", "f", "false", "n", "no", "off"];
    if no.contains(&text.to_lowercase().as_str()) { "false" } else { "true" }
}

/// Returns the values of the key of the file.
fn in_file(
    setting: &Setting,
    fields: &Fields<'_>,
    mistakes: &mut Mistakes,
) -> Option<Vec<Spot<OsString>>> {
    let name = setting.name;
    let found = match setting.holds {
        holds if holds.is_list() => fields.texts(name, mistakes)?,
        Holds::Number { .. } => vec![fields.number(name, mistakes)?],
        Holds::Period { .. } => vec![fields.period(name, mistakes)?],
        Holds::Switch => vec![fields.switch(name, mistakes)?],
        _ => vec![fields.text(name, mistakes)?],
    };
    if found.is_empty() && !setting.default.is_empty() {
        let says = format!("`{name}` is empty: leave it out for {}", setting.default);
        mistakes.add(&fields.at(name), says);
    }
    Some(found.into_iter().map(|found| spot(found.value.into(), &found.at)).collect())
}

/// Returns the secrets of the variables, or else those that the file names.
fn secrets_of(
    setting: &Setting,
    variables: &[&str],
    fields: &Fields<'_>,
    mistakes: &mut Mistakes,
) -> Vec<Spot<OsString>> {
    let in_file = secrets_of_file(setting, fields, mistakes);
    let mut is_given = false;
    let mut all = Vec::new();
    for name in variables {
        match secrets::find(name) {
            Ok(Found { variable: None, .. }) => {}
            Ok(Found { variable: Some(variable), secrets }) => {
                is_given = true;
                let at = Origin::Variable(variable);
                all.extend(secrets.into_iter().map(|secret| spot(secret.into(), &at)));
            }
            Err(says) => {
                is_given = true;
                mistakes.add_whole(says);
            }
        }
    }
    if is_given { all } else { in_file }
}

fn secrets_of_file(
    setting: &Setting,
    fields: &Fields<'_>,
    mistakes: &mut Mistakes,
) -> Vec<Spot<OsString>> {
    let Some(Spot { value, at }) = found_secrets(setting.name, fields, mistakes) else {
        return Vec::new();
    };
    let read = value.map_err(|says| mistakes.add(&at, says)).unwrap_or_default();
    read.into_iter().map(|secret| spot(secret.into(), &at)).collect()
}

/// Returns the one secret of a table at `at`, which names its file or its variable.
pub(super) fn secret_of_file(
    name: &str,
    fields: &Fields<'_>,
    at: &Origin,
    mistakes: &mut Mistakes,
) -> Option<Spot<String>> {
    let said_so_far = mistakes.sentences().len();
    let Some(Spot { value, at }) = found_secrets(name, fields, mistakes) else {
        if mistakes.sentences().len() == said_so_far {
            mistakes.add(at, format_args!("give `{name}_file` or `{name}_env`"));
        }
        return None;
    };
    let one = value.and_then(|secrets| match <[String; 1]>::try_from(secrets) {
        Ok([secret]) => Ok(secret),
        Err(_) => Err("there are several secrets, and one signs: leave out the others".into()),
    });
    one.map_err(|says| mistakes.add(&at, says)).ok().map(|value| Spot { value, at })
}

/// Returns the secrets that a table names by `NAME_file` or `NAME_env`, or what is wrong with them.
fn found_secrets(
    name: &str,
    fields: &Fields<'_>,
    mistakes: &mut Mistakes,
) -> Option<Spot<Result<Vec<String>, String>>> {
    let [file_key, env_key] = ["file", "env"].map(|end| format!("{name}_{end}"));
    let file = fields.text(&file_key, mistakes);
    let variable = fields.text(&env_key, mistakes);
    let Spot { value, at } = match (file, variable) {
        (None, None) => return None,
        (Some(_), Some(second)) => {
            let says = format!("both `{file_key}` and `{env_key}` are given: leave one out");
            Spot { value: Err(says), at: second.at }
        }
        (Some(file), None) => {
            let read = secrets::in_file(&file.value);
            let shown = secrets::shown_path(&file.value);
            let read = read.map_err(|what| format!("`{file_key}`: the file{shown} {what}"));
            Spot { value: read, at: file.at }
        }
        (None, Some(variable)) => {
            let read = secrets_of_variable(&variable.value);
            Spot { value: read.map_err(|says| format!("`{env_key}`: {says}")), at: variable.at }
        }
    };
    let value = value.and_then(|secrets| match secrets.is_empty() {
        true => Err(format!("no secret is there for `{name}`")),
        false => Ok(secrets),
    });
    Some(Spot { value, at })
}

fn secrets_of_variable(name: &str) -> Result<Vec<String>, String> {
    if !secrets::is_variable(name) {
        return Err("it must be the name of a variable: capital letters, digits and _".into());
    }
    let found = secrets::find(name)?;
    match found.variable {
        Some(_) => Ok(found.secrets),
        None => Err(format!("the variable {name} is not set")),
    }
}

impl Given {
    /// Returns the values of a setting.
    pub(super) fn values(&self, name: &str) -> &[Spot<OsString>] {
        let found = self.resolved.iter().find(|resolved| resolved.setting.name == name);
        debug_assert!(found.is_some(), "{name} is not a setting");
        found.map_or(&[], |resolved| &resolved.values)
    }

    /// Returns the texts of a setting. The values that are not text were refused.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.values(name).iter().map(|spot| spot.value.to_string_lossy().into_owned()).collect()
    }

    /// Returns the only text of a setting.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.texts(name).into_iter().next()
    }

    /// Returns the path of a setting.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.values(name).first().map(|spot| PathBuf::from(&spot.value))
    }

    /// Returns true if a setting brings webhooks for which a start without a secret made no path.
    fn lacks_path_for(&self, name: &str) -> bool {
        name == "webhook_secrets" && self.values(name).is_empty()
    }

    /// Returns the names of the settings that need a restart and have other values than here.
    pub(in crate::cli) fn waiting_for_restart(&self, newer: &Given) -> Vec<&'static str> {
        let texts = |given: &Given, name: &str| -> Vec<OsString> {
            given.values(name).iter().map(|spot| spot.value.clone()).collect()
        };
        SETTINGS
            .iter()
            .filter(|setting| !setting.reloads || self.lacks_path_for(setting.name))
            .map(|setting| setting.name)
            .filter(|name| texts(self, name) != texts(newer, name))
            .collect()
    }

    /// Returns true if nothing is wrong with the endpoints.
    pub(in crate::cli) fn has_good_endpoints(&self) -> bool {
        self.endpoint_mistakes.is_empty()
    }
}
