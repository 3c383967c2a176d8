//! Role mappings: rules from groups and attributes to roles, as an operator set them.

use alloc::sync::Arc;

use crate::ground::glob::glob_fits;
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields, pack_variants};

/// Names of roles, shared by the mappings that have the same ones.
pub type RoleNames = Arc<[String]>;

/// A mapping as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The way to combine the roles of several rules.
    pub mode: Mode,
    /// The roles of a user with access to whom no rule gives any.
    pub default_roles: RoleNames,
    /// Roles, the first the highest.
    pub priority: RoleNames,
    /// The rules, in the order written. Mappings that are set share their equal rules.
    pub rules: Vec<Arc<Rule>>,
}

/// The way to combine the roles of several rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Their union.
    #[default]
    All,
    /// Only the highest of them.
    HighestPriority,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The condition, and the roles that it gives.
    pub matches: Matches,
    /// Only users of this directory.
    pub directory: Option<String>,
    /// Only users of this organization's directories.
    pub organization: Option<String>,
}

/// The condition of a rule, and the roles that it gives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matches {
    /// Members of some groups.
    Group {
        /// The groups.
        group: GroupPattern,
        /// Their roles.
        roles: Vec<String>,
    },
    /// Users with a value of an attribute.
    Attribute {
        /// A dotted path from the root of the user's snapshot.
        path: String,
        /// Roles by value.
        values: Vec<(String, RoleNames)>,
    },
}

/// The groups that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupPattern {
    /// The group with this id.
    Id(Arc<str>),
    /// Groups of exactly this name.
    Name(NameText),
    /// Groups whose name fits: `*` matches any run of characters, `?` matches one, and any other
    /// character matches itself.
    Glob(NameText),
}

/// A group's name or a glob in a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameText {
    /// The text as the operator wrote it.
    pub written: Arc<str>,
    /// The text with which names are compared: the written one in the normalization form in which
    /// the caller gives [`GroupData::compared_name`](crate::GroupData::compared_name).
    pub compared: Arc<str>,
}

impl NameText {
    /// Makes the text of a rule. Most are compared as they are written: those are stored once.
    pub fn new(written: &str, compared: &str) -> NameText {
        let written: Arc<str> = written.into();
        let compared = if *written == *compared { written.clone() } else { compared.into() };
        NameText { written, compared }
    }
}

impl Mapping {
    /// Returns every role that the rules and the defaults give, some more than once.
    pub fn roles(&self) -> impl Iterator<Item = &String> {
        self.rules.iter().flat_map(|rule| rule.roles()).chain(&*self.default_roles)
    }
}

/// About the bytes of memory that a text of its own takes besides its characters.
const TEXT_OVERHEAD: usize = 48;

/// The same for a rule, with its places in the indexes of its first mapping.
const RULE_OVERHEAD: usize = 256;

/// The same for a value of an attribute.
const VALUE_OVERHEAD: usize = 128;

impl Rule {
    /// Returns about the bytes of memory that the rule takes.
    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &str| TEXT_OVERHEAD + text.len();
        let roles =
            |roles: &[String]| roles.iter().map(|role| text(role)).sum::<usize>() + TEXT_OVERHEAD;
        let matches = match &self.matches {
            Matches::Group { group, roles: given } => {
                let copies = if group.is_compared_as_written() { 1 } else { 2 };
                copies * text(group.meaning().1) + roles(given)
            }
            Matches::Attribute { path, values } => {
                let mut before: Option<&RoleNames> = None;
                let values = values.iter().map(|(value, given)| {
                    // Values mostly share the names of their roles.
                    let shares = before.is_some_and(|before| Arc::ptr_eq(before, given));
                    before = Some(given);
                    VALUE_OVERHEAD + 2 * value.len() + if shares { 0 } else { roles(given) }
                });
                text(path) + values.sum::<usize>()
            }
        };
        let scope = [&self.directory, &self.organization].into_iter().flatten();
        RULE_OVERHEAD + matches + scope.map(|id| text(id)).sum::<usize>()
    }

    /// Returns about the bytes of memory that a mapping takes for the rule if another one has it.
    pub(crate) fn shared_bytes(&self) -> usize {
        match &self.matches {
            Matches::Group { .. } => 64,
            Matches::Attribute { values, .. } => 64 + 12 * values.len(),
        }
    }

    /// Returns every role that it may give, some more than once.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &String> {
        let lists = match &self.matches {
            Matches::Group { roles, .. } => vec![&roles[..]],
            Matches::Attribute { values, .. } => values.iter().map(|(_, roles)| &**roles).collect(),
        };
        lists.into_iter().flatten()
    }
}

impl GroupPattern {
    /// Tells if a group with this name, as it is compared, matches by it. Adds to `work` about the
    /// nanoseconds that it takes.
    pub(crate) fn fits_name(&self, name: &str, work: &mut u64) -> bool {
        match self {
            GroupPattern::Id(_) => false,
            GroupPattern::Name(wanted) => {
                *work += 1;
                *wanted.compared == *name
            }
            GroupPattern::Glob(glob) => glob_fits(&glob.compared, name, work),
        }
    }

    /// Tells if its text is stored once.
    fn is_compared_as_written(&self) -> bool {
        match self {
            GroupPattern::Id(_) => true,
            GroupPattern::Name(text) | GroupPattern::Glob(text) => {
                Arc::ptr_eq(&text.written, &text.compared)
            }
        }
    }

    /// Returns the kind of the pattern and its text as it is compared: two patterns with both in
    /// common mean the same.
    pub(crate) fn meaning(&self) -> (&'static str, &str) {
        match self {
            GroupPattern::Id(id) => ("id", id),
            GroupPattern::Name(name) => ("name", &name.compared),
            GroupPattern::Glob(glob) => ("glob", &glob.compared),
        }
    }
}

pack_fields!(Rule { matches, directory, organization });
pack_variants!(Mode { All = 0, HighestPriority = 1 });

impl Pack for Matches {
    fn pack(&self, to: &mut Packer<'_>) {
        matches!(self, Matches::Group { .. }).pack(to);
        match self {
            Matches::Group { group, roles } => {
                group.pack(to);
                roles.pack(to);
            }
            Matches::Attribute { path, values } => {
                path.pack(to);
                to.count(values.len());
                let mut before: Option<&RoleNames> = None;
                for (value, roles) in values {
                    value.pack(to);
                    // Values mostly share the names of their roles.
                    let own = before.is_none_or(|before| !Arc::ptr_eq(before, roles));
                    own.then(|| roles.clone()).pack(to);
                    before = Some(roles);
                }
            }
        }
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        if bool::unpack(from)? {
            return Some(Matches::Group { group: Pack::unpack(from)?, roles: Pack::unpack(from)? });
        }
        let path = Pack::unpack(from)?;
        let mut values: Vec<(String, RoleNames)> = Vec::new();
        for _ in 0..from.count()? {
            let (value, own): (String, Option<RoleNames>) = Pack::unpack(from)?;
            let roles = own.or_else(|| values.last().map(|(_, roles)| roles.clone()))?;
            values.push((value, roles));
        }
        values.shrink_to_fit();
        Some(Matches::Attribute { path, values })
    }
}

pack_variants!(GroupPattern { Id(id) = 0, Name(name) = 1, Glob(glob) = 2 });

impl Pack for NameText {
    fn pack(&self, to: &mut Packer<'_>) {
        let NameText { written, compared } = self;
        written.pack(to);
        let own = !Arc::ptr_eq(written, compared);
        own.then(|| compared.clone()).pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let (written, compared): (Arc<str>, Option<Arc<str>>) = Pack::unpack(from)?;
        let compared = compared.unwrap_or_else(|| written.clone());
        Some(NameText { written, compared })
    }
}
