use super::*;

fn bjensen() -> Document {
    user(
        "{'userName':'bjensen','externalId':'Ab1','name':{'familyName':'O\\'Malley'},
        'title':'Vice President','userType':'Employee','nickName':null,'unknown':'here',
        'emails':[{'type':'work','value':'bjensen@example.com','primary':true},
                  {'type':'home','value':'Babs@Jensen.org'}],
        'urn:x:2.0:User':{'level':12},
        'department':'Sales','manager':'M'}"
            .replace("\\'", "’")
            .as_str(),
    )
    .document
}

fn finds(filter: &str) -> bool {
    let related = Memberships {
        groups: vec![GroupOf { id: "G1".into(), display: Some("Staff".into()) }],
        ..Memberships::default()
    };
    let filter = Filter::parse(&quoted(filter)).unwrap_or_else(|it| panic!("{filter}: {it:?}"));
    filter.matches(&shown(Kind::User, &bjensen(), &related))
}

#[test]
fn filters_of_the_rfc_find_what_they_should() {
    let table = [
        ("userName eq 'bjensen'", true),
        ("USERNAME Eq 'BJENSEN'", true),
        ("userName eq 'bjense'", false),
        ("name.familyName co 'MALLEY'", true),
        ("userName sw 'BJ'", true),
        ("userName ew 'sen'", true),
        ("urn:ietf:params:scim:schemas:core:2.0:User:userName sw 'bj'", true),
        ("title pr", true),
        ("nickName pr", false),
        ("title pr and userType eq 'Employee'", true),
        ("title pr or userType eq 'Intern'", true),
        ("schemas eq 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User'", true),
        ("userType eq 'Employee' and (emails co 'example.com' or emails.value co 'x')", true),
        ("userType ne 'Employee' and not (emails co 'example.com')", false),
        ("userType eq 'Employee' and emails[type eq 'work' and value co '@example.com']", true),
        ("emails[type eq 'home' and value co '@example.com']", false),
        ("emails[type eq 'home' and primary eq true]", false),
        ("emails[type eq 'x'] or emails[not (type eq 'work')]", true),
        ("meta.lastModified gt '2011-05-13T04:42:34Z'", true),
        ("meta.lastModified ge '2025-11-30T11:54:20.500+01:00'", true),
        ("meta.lastModified gt '2025-11-30T11:54:20.500+01:00'", false),
        ("meta.created lt '2025-11-30T11:53:20.001+01:00'", true),
        ("meta.created le '2025-11-30T10:53:19Z'", false),
        ("meta.resourceType eq 'user'", true),
        ("meta.version eq 'W/\\'17\\''", true),
        ("userName gt 'bj' and userName lt 'bk'", true),
        ("userName ge 'BJENSEN' and userName le 'bjensen'", true),
    ];
    for (filter, expected) in table {
        let filter = filter.replace("\\'", "\\\"");
        assert_eq!(finds(&filter), expected, "{filter}");
    }
}

#[test]
fn not_binds_before_and_and_and_before_or() {
    assert!(finds("title pr or title pr and nickName pr"));
    assert!(finds("nickName pr and nickName pr or title pr"));
    assert!(!finds("not (title pr) and title pr"));
    assert!(finds("not (title pr) or title pr"));
    assert!(finds("not(nickName pr)and(title pr)"));
}

#[test]
fn only_case_exact_attributes_are_compared_with_case() {
    assert!(finds("externalId eq 'Ab1'") && !finds("externalId eq 'ab1'"));
    assert!(!finds("id eq '0198AAAA-0000-7000-8000-000000000001'"));
    assert!(finds("id eq '0198aaaa-0000-7000-8000-000000000001'"));
    assert!(finds("externalId sw 'A'") && !finds("externalId sw 'a'"));
    // The id of another resource is not.
    assert!(finds("groups.value sw 'g'") && finds("groups[value ew '1' and value sw 'g']"));
}

#[test]
fn a_list_stands_for_its_values_and_an_unknown_attribute_has_none() {
    assert!(finds("emails eq 'babs@jensen.org'") && finds("emails.type eq 'HOME'"));
    assert!(finds("manager eq 'M'") && finds("manager.value eq 'M'"));
    assert!(finds("department eq 'sales'"));
    assert!(finds("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department pr"));
    assert!(finds("urn:x:2.0:User:level gt 9") && finds("urn:x:2.0:User:level eq 12"));
    assert!(!finds("unknown eq 'here'") && !finds("unknown pr") && finds("unknown eq null"));
    assert!(finds("unknown ne 'here'") && finds("nickName eq null") && finds("title ne null"));
    assert!(!finds("emails.odd pr") && !finds("name.odd eq 'x'") && finds("name.odd ne 'x'"));
    assert!(!finds("name eq 'x'") && finds("name pr") && !finds("password pr"));
}

#[test]
fn booleans_are_equal_to_their_texts() {
    assert!(finds("active eq true") && finds("active eq True") && finds("active eq 'TRUE'"));
    assert!(!finds("active eq false") && finds("active ne false"));
    assert!(finds("emails[primary eq 'True'].value eq 'bjensen@example.com'"));
}

#[test]
fn what_providers_write_beside_the_grammar_is_understood() {
    assert!(finds("externalId eq Ab1") && !finds("externalId eq jyoung"));
    assert!(finds("emails[type eq 'work'].value eq 'bjensen@example.com'"));
    assert!(!finds("emails[type eq 'home'].value eq 'bjensen@example.com'"));
    assert!(finds("emails[type eq 'home' or type eq work].value sw babs and title pr"));
    assert!(
        finds("not (emails[type eq 'home'].value eq 'x')")
            && finds("emails[type eq home].value pr")
    );
    assert!(finds("  userName   eq\t'bjensen'  "));
    assert!(finds("userName eq bjensen and(externalId eq Ab1)"));
    assert!(finds("title eq 'vice president' or userName eq 'a ] [ ( \\\" b'"));
}

#[test]
fn memberships_are_looked_up() {
    assert!(finds("groups eq 'G1'") && finds("groups.value eq 'G1'") && !finds("groups eq 'G2'"));
    assert!(finds("groups[value eq 'G1']") && finds("groups[display eq 'staff']"));
    struct Huge;
    impl Related for Huge {
        fn members(&self) -> Vec<MemberOf> {
            panic!("members are loaded")
        }
        fn is_member(&self, id: &str) -> bool {
            id == "U"
        }
        fn groups(&self) -> Vec<GroupOf> {
            panic!("a group has no groups")
        }
        fn is_in(&self, _: &str) -> bool {
            panic!("a group has no groups")
        }
    }
    let (document, related) = (document("{'displayName':'g'}"), Memberships::default());
    let group = Shown { related: &Huge, ..shown(Kind::Group, &document, &related) };
    for (member, expected) in [("U", true), ("V", false)] {
        for filter in [
            format!("id eq '{}' and members eq '{member}'", group.id),
            format!("members.value eq '{member}'"),
            format!("members[value eq '{member}']"),
        ] {
            let filter = Filter::parse(&quoted(&filter)).unwrap();
            assert_eq!(filter.matches(&group), expected);
        }
    }
    // An attribute of users is unknown to groups.
    assert!(!Filter::parse("userName pr").unwrap().matches(&group));
}

#[test]
fn what_is_no_filter_is_refused() {
    for filter in [
        "",
        "userName",
        "userName eq",
        "eq 'a'",
        "userName is 'a'",
        "userName eq 'a' and",
        "(userName pr",
        "userName pr)",
        "emails[type eq 'work'",
        "emails]",
        "userName eq 'a",
        "userName eq 'a' 'b'",
        "userName eq two words",
        "not userName pr",
        "a..b pr",
        "active gt true",
        "active lt 'x'",
        "primary ge false",
        "emails.primary gt 'a'",
        "emails[primary le 'a']",
        "title gt null",
        "userName eq 'a' ; drop",
        "emails[].value pr",
    ] {
        let refusal = Filter::parse(&quoted(filter)).unwrap_err();
        assert_eq!((refusal.status, refusal.scim_type), (400, Some("invalidFilter")), "{filter}");
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |levels: usize| format!("{}title pr{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Filter::parse(&nested(64)).is_ok());
    let not = |levels: usize| format!("{}title pr{}", "not (".repeat(levels), ")".repeat(levels));
    let long = format!("userName eq \"{}\"", "x".repeat(FILTER_BYTES_MAX));
    for filter in [nested(65), nested(3000), not(65), not(1300), "[".repeat(8000), long] {
        assert_eq!(Filter::parse(&filter).unwrap_err().scim_type, Some("invalidFilter"));
    }
}

#[test]
fn a_filter_is_looked_up_by_the_best_index() {
    let table = [
        ("userName eq 'A@B'", Some((ProbeKey::UserName, "a@b"))),
        ("externalId eq Ab", Some((ProbeKey::ExternalId, "Ab"))),
        ("displayName eq 'Group1'", Some((ProbeKey::DisplayName, "group1"))),
        ("emails eq 'A@b'", Some((ProbeKey::Email, "a@b"))),
        ("emails.value eq 'A@b'", Some((ProbeKey::Email, "a@b"))),
        ("emails[type eq 'work'].value eq 'A@b'", Some((ProbeKey::Email, "a@b"))),
        ("emails[type eq 'work' and value eq 'A@b']", Some((ProbeKey::Email, "a@b"))),
        ("id eq 'G' and members eq 'U'", Some((ProbeKey::Id, "G"))),
        ("members eq 'U' and id eq 'G'", Some((ProbeKey::Id, "G"))),
        ("id eq 'U' and manager eq 'M'", Some((ProbeKey::Id, "U"))),
        ("members[value eq 'U']", Some((ProbeKey::Member, "U"))),
        ("title pr and userName eq 'x'", Some((ProbeKey::UserName, "x"))),
        ("userName eq 'x' or title pr", None),
        ("not (userName eq 'x')", None),
        ("userName sw 'x'", None),
        ("emails.type eq 'work'", None),
        ("emails[type eq 'work']", None),
        ("emails[value eq 'x' or type eq 'work']", None),
        ("name.familyName eq 'x'", None),
    ];
    for (filter, expected) in table {
        let probe = Filter::parse(&quoted(filter)).unwrap().probe();
        let found = probe.as_ref().map(|probe| (probe.key, probe.text.as_str()));
        assert_eq!(found, expected, "{filter}");
    }
}
