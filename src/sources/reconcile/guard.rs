//! The guard: a reconciliation that would end too much at once ends nothing. A source that answers
//! empty lists by mistake must not empty the log's directories.

use std::fmt;
use std::str::FromStr;

/// As many ends as this are always allowed, whatever the share is.
const ENDS_FREE: u64 = 10;

/// As many directories as this may always end.
const DIRECTORIES_FREE: u64 = 2;

/// From as many things on, the end of all of them is refused.
const ALL_MIN: u64 = 3;

/// The days whose ends count together.
pub(crate) const WINDOW_DAYS: i64 = 7;

/// The share of things that a reconciliation may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Everything may end.
    Off,
    /// At most this share of each kind, in percent.
    Percent(u8),
}

impl FromStr for Guard {
    type Err = ();

    fn from_str(text: &str) -> Result<Guard, ()> {
        if text == "off" {
            return Ok(Guard::Off);
        }
        let percent = text.strip_suffix('%').ok_or(())?;
        if percent.is_empty() || !percent.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(());
        }
        percent.parse().ok().filter(|percent| *percent <= 100).map(Guard::Percent).ok_or(())
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guard::Off => f.write_str("off"),
            Guard::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The things of one kind that are there, and those of them that would end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that the log holds.
    pub there: u64,
    /// Those of them that would end.
    pub ending: u64,
}

impl Tally {
    /// Adds one thing.
    pub(crate) fn count(&mut self, ending: bool) {
        self.there += 1;
        self.ending += u64::from(ending);
    }

    /// Counts anew what would end: all but the things that `moved`, or else a number of them.
    pub(crate) fn end_again(&mut self, all: bool, ending: u64, moved: u64) {
        let all_but_moved = self.there.saturating_sub(moved);
        self.ending = if all { all_but_moved } else { ending.min(self.there) };
    }

    fn plus(self, other: Tally) -> Tally {
        Tally { there: self.there + other.there, ending: self.ending + other.ending }
    }

    /// Adds what ended earlier, which was there then.
    fn with_earlier(self, earlier: u64) -> Tally {
        self.plus(Tally { there: earlier, ending: earlier })
    }

    /// Says what would end if that is more than a share of them, and more than the free number.
    fn excess(self, kind: &str, guard: Guard, free: u64) -> Option<String> {
        let Guard::Percent(percent) = guard else { return None };
        let may = free.max(self.there.saturating_mul(percent.into()) / 100);
        let Tally { there, ending } = self;
        (ending > may).then(|| format!("{ending} of {there} {kind} would end, {may} may"))
    }

    /// Tells if all of them would end, and they are not few.
    fn is_all(self) -> bool {
        self.there >= ALL_MIN && self.ending == self.there
    }
}

/// What a reconciliation would end in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Users who are active, also where their directory is not.
    pub users: Tally,
    /// Groups.
    pub groups: Tally,
    /// Memberships.
    pub memberships: Tally,
}

/// The ends that reconciliations recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Users who were active.
    pub users: u64,
    /// Directories that were active, or are gone.
    pub directories: u64,
}

impl Ended {
    /// Returns the sum of both.
    pub(crate) fn plus(self, other: Ended) -> Ended {
        Ended { users: self.users + other.users, directories: self.directories + other.directories }
    }
}

impl Ends {
    /// Says why the ends of a directory are held; `None` if they are not.
    pub fn excess(self, guard: Guard) -> Option<String> {
        if guard == Guard::Off {
            return None;
        }
        let kinds = [
            ("active users", self.users),
            ("groups", self.groups),
            ("memberships", self.memberships),
        ];
        kinds.into_iter().find_map(|(name, kind)| {
            let all = || kind.is_all().then(|| format!("all {} {name} would end", kind.there));
            kind.excess(name, guard, ENDS_FREE).or_else(all)
        })
    }
}

/// Says why all ends of a run are held: those of its directories and of the users in them, and
/// those that ended in the days before; `None` if they are not.
pub fn run_excess(
    directories: Tally,
    ends: impl IntoIterator<Item = Ends>,
    earlier: Ended,
    guard: Guard,
) -> Option<String> {
    let users = ends.into_iter().fold(Tally::default(), |sum, ends| sum.plus(ends.users));
    let kinds = [
        ("active users of all directories", users, earlier.users, ENDS_FREE),
        ("directories", directories, earlier.directories, DIRECTORIES_FREE),
    ];
    // A run that ends nothing has nothing to hold.
    kinds.into_iter().filter(|(_, kind, ..)| kind.ending > 0).find_map(
        |(name, kind, earlier, free)| {
            let excess = kind.with_earlier(earlier).excess(name, guard, free)?;
            let before = match earlier {
                0 => String::new(),
                _ => format!("; {earlier} of these ended in the last {WINDOW_DAYS} days"),
            };
            Some(excess + &before)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(there: u64, ending: u64) -> Tally {
        Tally { there, ending }
    }

    #[test]
    fn a_guard_is_a_whole_share_or_off() {
        for (text, expected) in [
            ("10%", Ok(Guard::Percent(10))),
            ("0%", Ok(Guard::Percent(0))),
            ("100%", Ok(Guard::Percent(100))),
            ("off", Ok(Guard::Off)),
            ("101%", Err(())),
            ("10", Err(())),
            ("%", Err(())),
            ("+5%", Err(())),
            ("-1%", Err(())),
            ("1.5%", Err(())),
            ("OFF", Err(())),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
            if let Ok(guard) = expected {
                assert_eq!(guard.to_string(), text);
            }
        }
    }

    #[test]
    fn a_directory_is_held_where_more_than_a_share_and_more_than_ten_or_all_would_end() {
        let ten = Guard::Percent(10);
        for (there, ending, guard, held) in [
            (1000, 100, ten, false),
            (1000, 101, ten, true),
            // Ten may always end.
            (50, 10, ten, false),
            (50, 11, ten, true),
            (105, 11, ten, true),
            (110, 11, ten, false),
            // All of three or more may not.
            (2, 2, ten, false),
            (3, 3, ten, true),
            (3, 2, ten, false),
            (10, 10, ten, true),
            (0, 0, ten, false),
            (50, 10, Guard::Percent(0), false),
            (5000, 11, Guard::Percent(0), true),
            // With the whole share still not all.
            (100, 99, Guard::Percent(100), false),
            (100, 100, Guard::Percent(100), true),
            (100, 100, Guard::Off, false),
        ] {
            for kind in 0..3 {
                let mut ends = Ends::default();
                *[&mut ends.users, &mut ends.groups, &mut ends.memberships][kind] =
                    tally(there, ending);
                assert_eq!(ends.excess(guard).is_some(), held, "{ending} of {there}, {guard}");
            }
        }
    }

    #[test]
    fn a_run_is_held_over_all_users_and_all_directories() {
        let users = |there, ending| Ends { users: tally(there, ending), ..Ends::default() };
        let run = |directories, ends: &[Ends], earlier, guard| {
            run_excess(directories, ends.iter().copied(), earlier, guard).is_some()
        };
        let (none, ten) = (Ended::default(), Guard::Percent(10));
        let held = |ends: &[Ends]| run(tally(9, 0), ends, none, ten);
        assert!(!held(&[users(60, 6), users(40, 4)]));
        assert!(held(&[users(60, 6), users(40, 5)]));
        assert!(!held(&[users(600, 6), users(40, 5)]));
        for (there, ending, expected) in
            [(9, 2, false), (9, 3, true), (30, 3, false), (30, 4, true), (2, 2, false)]
        {
            assert_eq!(run(tally(there, ending), &[], none, ten), expected, "{ending} of {there}");
        }
        assert!(!run(tally(9, 9), &[users(60, 60)], none, Guard::Off));
    }

    #[test]
    fn what_ended_in_the_days_before_counts_and_holds_nothing_where_nothing_ends() {
        let users = |there, ending| [Ends { users: tally(there, ending), ..Ends::default() }];
        let ten = Guard::Percent(10);
        let earlier = |users, directories| Ended { users, directories };
        let held = |ends, earlier| run_excess(tally(9, 0), ends, earlier, ten).is_some();
        assert!(!held(users(90, 1), earlier(9, 0)));
        assert!(held(users(90, 2), earlier(9, 0)));
        assert!(!held(users(90, 0), earlier(500, 0)));
        assert!(run_excess(tally(8, 1), [], earlier(0, 2), ten).is_some());
        assert!(run_excess(tally(8, 1), [], earlier(0, 1), ten).is_none());
    }

    #[test]
    fn a_guard_that_holds_says_what_would_end_and_how_much_may() {
        let ten = Guard::Percent(10);
        let users = |there, ending| Ends { users: tally(there, ending), ..Ends::default() };
        let of = |ends: Ends| ends.excess(ten).unwrap_or_default();
        assert_eq!(of(users(38, 14)), "14 of 38 active users would end, 10 may");
        assert_eq!(of(users(5000, 501)), "501 of 5000 active users would end, 500 may");
        assert_eq!(of(Ends { groups: tally(4, 4), ..users(38, 10) }), "all 4 groups would end");
        let run = |directories, ends: Ends, earlier| {
            run_excess(directories, [ends], earlier, ten).unwrap_or_default()
        };
        let (none, earlier) = (Ended::default(), Ended { users: 0, directories: 2 });
        let all = "11 of 100 active users of all directories would end, 10 may";
        assert_eq!(run(tally(9, 0), users(100, 11), none), all);
        // Ten are there and two were.
        let before = "3 of 12 directories would end, 2 may; 2 of these ended in the last 7 days";
        assert_eq!(run(tally(10, 1), Ends::default(), earlier), before);
    }
}
