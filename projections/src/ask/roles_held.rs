//! The roles of one user at a cut, and the grounds for each.

use smallvec::SmallVec;

use crate::ground::order::Cut;
use crate::ground::symbols::Sym;
use crate::state::attributes::Attributes;
use crate::state::compiled_mapping::{Compiled, MemberOf, Rank, RoleGrounds, RuleScope};
use crate::state::entities::{EntityKind, EntityVersion};
use crate::views::Views;

impl Views {
    /// Returns the grounds of the roles that a user, alive at the cut, has by a mapping; none
    /// without access.
    pub(crate) fn grounds(
        &self,
        mapping: &Compiled,
        attributes: &Attributes,
        user: Sym,
        version: &EntityVersion,
        cut: Cut,
    ) -> RoleGrounds {
        let groups = self.groups_of(user, cut);
        self.grounds_in_groups(mapping, attributes, &groups, version, cut)
    }

    /// Does the same for a user whose groups are known.
    pub(crate) fn grounds_in_groups(
        &self,
        mapping: &Compiled,
        attributes: &Attributes,
        groups: &[(Sym, &EntityVersion)],
        version: &EntityVersion,
        cut: Cut,
    ) -> RoleGrounds {
        if !self.has_access(version, cut) {
            return RoleGrounds::new();
        }
        let scope = self.scope(version, cut);
        let groups = groups.iter().map(|(group, version)| MemberOf {
            group: *group,
            id: self.groups.id(*group),
            name: version.label,
        });
        let snapshot = (version.place.seq, version.part);
        mapping.grounds(groups, snapshot, &scope, attributes, self.roles.patterns())
    }

    pub(crate) fn scope(&self, version: &EntityVersion, cut: Cut) -> RuleScope<'_> {
        RuleScope {
            directory: self.directories.id(version.directory),
            organization: self.texts.text(self.organization_of(version.directory, cut)),
        }
    }

    /// Returns a user's roles by the mapping in force, the highest first; `None` before the first
    /// mapping.
    pub(crate) fn roles_of(
        &self,
        groups: &[(Sym, &EntityVersion)],
        version: &EntityVersion,
        cut: Cut,
    ) -> Option<Vec<String>> {
        let mapping = self.roles.in_force(cut)?;
        let mut ranks: Vec<Rank> = self
            .grounds_in_groups(mapping, self.roles.attributes(), groups, version, cut)
            .iter()
            .map(|ground| ground.role)
            .collect();
        ranks.dedup();
        Some(ranks.into_iter().map(|rank| mapping.role(rank).to_owned()).collect())
    }

    /// Returns the roles that a user holds at the cut, in the order in which its object shows them,
    /// each once: none without access, else those of the mapping in force, or before the first
    /// those of the source.
    pub(crate) fn roles_held(&self, user: Sym, cut: Cut) -> Vec<String> {
        let version = self.alive(EntityKind::User, user, cut);
        let Some(version) = version.filter(|version| self.has_access(version, cut)) else {
            return Vec::new();
        };
        self.roles_with_access(user, version, cut).into_iter().map(str::to_owned).collect()
    }

    /// Returns the roles that a user with access holds by its version at the cut.
    pub(crate) fn roles_with_access(
        &self,
        user: Sym,
        version: &EntityVersion,
        cut: Cut,
    ) -> Vec<&str> {
        let Some(mapping) = self.roles.in_force(cut) else { return self.slugs(version) };
        let grounds = self.grounds(mapping, self.roles.attributes(), user, version, cut);
        let mut ranks: SmallVec<[Rank; 8]> = grounds.iter().map(|ground| ground.role).collect();
        ranks.dedup();
        ranks.into_iter().map(|rank| mapping.role(rank)).collect()
    }

    /// Returns the slugs of the roles that the source gives with a version, each once.
    fn slugs(&self, version: &EntityVersion) -> Vec<&str> {
        let mut slugs: Vec<&str> = Vec::new();
        for slug in self.texts.text(version.label).split('\u{1f}').filter(|slug| !slug.is_empty()) {
            if !slugs.contains(&slug) {
                slugs.push(slug);
            }
        }
        slugs
    }

    /// Tells if a user, alive at the cut, has a role: by the mapping in force, or before the first
    /// as the source says.
    pub(crate) fn has_role(
        &self,
        role: &str,
        user: Sym,
        version: &EntityVersion,
        cut: Cut,
    ) -> bool {
        match self.roles.in_force(cut) {
            None => self.slugs(version).contains(&role),
            Some(mapping) => mapping.rank(role).is_some_and(|rank| {
                self.grounds(mapping, self.roles.attributes(), user, version, cut)
                    .iter()
                    .any(|ground| ground.role == rank)
            }),
        }
    }
}
