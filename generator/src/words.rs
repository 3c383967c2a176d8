//! The words of which generated companies and people consist.

/// The words of a department. Of 100 people `weight` work there; the titles go from the first to
/// the last step of a career.
pub(super) struct DepartmentWords {
    pub(super) name: &'static str,
    pub(super) weight: u64,
    pub(super) cost_center: &'static str,
    pub(super) titles: [&'static str; 4],
}

const fn department(
    name: &'static str,
    weight: u64,
    cost_center: &'static str,
    titles: [&'static str; 4],
) -> DepartmentWords {
    DepartmentWords { name, weight, cost_center, titles }
}

/// All departments, the largest first: small companies have only the first few.
pub(super) const DEPARTMENTS: [DepartmentWords; 10] = [
    department(
        "Engineering",
        31,
        "CC-4100",
        ["Software Engineer", "Senior Software Engineer", "Staff Engineer", "Engineering Manager"],
    ),
    department(
        "Sales",
        18,
        "CC-2100",
        ["Account Executive", "Senior Account Executive", "Sales Manager", "Regional Director"],
    ),
    department(
        "Customer Support",
        14,
        "CC-2400",
        ["Support Agent", "Support Specialist", "Support Lead", "Support Manager"],
    ),
    department(
        "Operations",
        11,
        "CC-5000",
        ["Coordinator", "Planner", "Operations Manager", "Head of Operations"],
    ),
    department(
        "Marketing",
        8,
        "CC-2200",
        ["Content Writer", "Campaign Manager", "Brand Lead", "Head of Marketing"],
    ),
    department(
        "Product",
        6,
        "CC-4300",
        ["Product Designer", "Product Manager", "Senior Product Manager", "Head of Product"],
    ),
    department(
        "Finance",
        5,
        "CC-1100",
        ["Accountant", "Controller", "Finance Manager", "Head of Finance"],
    ),
    department(
        "People",
        3,
        "CC-1200",
        ["People Partner", "Recruiter", "Senior Recruiter", "Head of People"],
    ),
    department(
        "IT",
        3,
        "CC-1300",
        ["Support Technician", "Systems Administrator", "Security Engineer", "Head of IT"],
    ),
    department(
        "Legal",
        1,
        "CC-1400",
        ["Paralegal", "Counsel", "Senior Counsel", "General Counsel"],
    ),
];

/// Names of teams within a department: birds.
#[rustfmt::skip]
pub(super) const TEAMS: [&str; 40] = [
    "Heron", "Kestrel", "Plover", "Curlew", "Lapwing", "Osprey", "Wren", "Siskin", "Merlin",
    "Bittern", "Avocet", "Dunlin", "Fulmar", "Gannet", "Harrier", "Jackdaw", "Kite", "Linnet",
    "Nuthatch", "Oriole", "Petrel", "Quail", "Redstart", "Sandpiper", "Tern", "Twite", "Vireo",
    "Whimbrel", "Yellowhammer", "Bunting", "Crake", "Dipper", "Egret", "Finch", "Grebe", "Hoopoe",
    "Ibis", "Jay", "Knot", "Swift",
];

#[rustfmt::skip]
pub(super) const OFFICES: [&str; 12] = [
    "Lisbon", "Toronto", "Leipzig", "Melbourne", "Austin", "Nairobi", "Kraków", "Singapore",
    "Bergen", "Montevideo", "Osaka", "Lyon",
];

/// Names of groups that cut across departments.
#[rustfmt::skip]
pub(super) const CIRCLES: [&str; 9] = [
    "VPN Users", "On-Call", "Budget Owners", "First Aiders", "Interviewers", "Building Access",
    "Travel Cards", "Beta Testers", "Choir",
];

/// Names of temporary groups.
#[rustfmt::skip]
pub(super) const PROJECTS: [&str; 16] = [
    "Lighthouse", "Quarry", "Sextant", "Windmill", "Anvil", "Marble", "Juniper", "Atlas", "Drydock",
    "Ember", "Foundry", "Granite", "Harbour", "Isthmus", "Keystone", "Loom",
];

#[rustfmt::skip]
pub(super) const COMPANIES: [&str; 30] = [
    "Halden", "Quillfeather", "Ostrava", "Bellwether", "Thistledown", "Norrland", "Candlewick",
    "Fernhollow", "Greywater", "Ironbark", "Juniper", "Kettleby", "Larkspur", "Millrace",
    "Nightjar", "Orchard", "Pemberly", "Ravensworth", "Saltmarsh", "Tamarind", "Umberfield",
    "Vantry", "Westerly", "Yarrow", "Zephyrine", "Ashgrove", "Brackwater", "Copperfold",
    "Driftwood", "Elmstead",
];

#[rustfmt::skip]
pub(super) const TRADES: [&str; 16] = [
    "Robotics", "Press", "Foods", "Logistics", "Instruments", "Energy", "Textiles", "Software",
    "Health", "Outfitters", "Mobility", "Ceramics", "Insurance", "Optics", "Shipping", "Labs",
];

/// Types of directories, as WorkOS names them.
#[rustfmt::skip]
pub(super) const DIRECTORY_TYPES: [&str; 5] = [
    "okta scim v2.0", "azure scim v2.0", "gsuite directory", "jump cloud scim v2.0",
    "rippling scim v2.0",
];

#[rustfmt::skip]
pub(super) const FIRST_NAMES: [&str; 120] = [
    "Ada", "Adaeze", "Agnes", "Aiko", "Alba", "Amara", "Amir", "Anders", "Anika", "Anouk", "Aroha",
    "Arjun", "Astrid", "Ayşe", "Beatriz", "Bilal", "Björn", "Bruno", "Callum", "Camila", "Carmen",
    "Cedric", "Chiara", "Chidi", "Clara", "Dalia", "Daniel", "Darya", "Deepa", "Dmitri", "Eduardo",
    "Eilidh", "Elena", "Elif", "Emeka", "Emil", "Esther", "Eun-ji", "Farah", "Fatima", "Felix",
    "Femi", "Freya", "Gabriel", "Gemma", "Giulia", "Grace", "Greta", "Hamza", "Hana", "Haruto",
    "Helga", "Hugo", "Ibrahim", "Ida", "Imani", "Ingrid", "Isla", "Ivan", "Jana", "Javier",
    "Jelena", "Jonah", "Joon-ho", "Julia", "Kaito", "Kamal", "Karin", "Keira", "Kofi", "Lars",
    "Layla", "Leila", "Lena", "Linh", "Lucia", "Luka", "Magnus", "Malik", "Manuel", "Marek",
    "Mariam", "Mateo", "Maya", "Mei-Lin", "Mila", "Mohan", "Nadia", "Naoko", "Ngozi", "Niamh",
    "Nils", "Nour", "Olga", "Omar", "Oona", "Pablo", "Paula", "Petra", "Priya", "Rafael", "Rania",
    "Renée", "Rohan", "Rosa", "Samir", "Sanne", "Sofia", "Sunita", "Sven", "Tamsin", "Tariq",
    "Thandi", "Tomas", "Ulla", "Valeria", "Wen", "Yara", "Zoë", "Zuzana",
];

#[rustfmt::skip]
pub(super) const LAST_NAMES: [&str; 140] = [
    "Abernathy", "Achterberg", "Adeyemi", "Ahlgren", "Akintola", "Albrecht", "Alvarado", "Amundsen",
    "Anand", "Ashworth", "Baptiste", "Barreto", "Bassett", "Bauer", "Bhatt", "Bjerke", "Blackwood",
    "Bonnet", "Brightwater", "Calloway", "Castellanos", "Cermak", "Chandra", "Chen", "Chowdhury",
    "Cisneros", "Corrigan", "Dahl", "Danso", "Delacroix", "Desai", "Devlin", "Diallo", "Dietrich",
    "Dogan", "Duarte", "Eklund", "Ellery", "Endo", "Eriksen", "Esposito", "Fairweather", "Falk",
    "Farouk", "Fernandez", "Fitzroy", "Fofana", "Fujimoto", "Gallagher", "Garrido", "Ghosh",
    "Gilchrist", "Grabowski", "Gunnarsson", "Gupta", "Haddad", "Hakimi", "Halloran", "Hashimoto",
    "Hawthorne", "Herrera", "Hoffmann", "Holm", "Horvat", "Hussein", "Ibarra", "Ito", "Ivanova",
    "Jankovic", "Jensen", "Jimenez", "Kaplan", "Karlsen", "Kaur", "Keller", "Kim", "Kimura",
    "Kowalski", "Kruger", "Kuznetsov", "Lacroix", "Larsen", "Leclerc", "Lindqvist", "Lombardi",
    "Lund", "MacLeod", "Malhotra", "Marchetti", "Mbeki", "Mendoza", "Mensah", "Moreau", "Morita",
    "Mwangi", "Nakamura", "Navarro", "Ndiaye", "Nguyen", "Novak", "Nyström", "O'Shea", "Okafor",
    "Olawale", "Ortega", "Osei", "Ozturk", "Pahlavi", "Pereira", "Petrov", "Phiri", "Quintero",
    "Ramachandran", "Rasmussen", "Reyes", "Ricci", "Rojas", "Rossi", "Sandoval", "Sato",
    "Schneider", "Sharma", "Silva", "Solheim", "Sørensen", "Suzuki", "Takeda", "Tanaka", "Teixeira",
    "Thorne", "Tran", "Vasquez", "Virtanen", "Vogel", "Wadsworth", "Whitlock", "Yamada", "Yilmaz",
    "Zhou", "Zielinski",
];

/// Returns a name in the form of an address: lower case, ASCII, letters only.
pub(super) fn in_address(name: &str) -> String {
    let plain = |letter: char| match letter {
        'ë' | 'é' | 'è' => Some('e'),
        'ö' | 'ø' | 'ó' => Some('o'),
        'ş' => Some('s'),
        letter => letter.is_ascii_alphabetic().then_some(letter),
    };
    name.to_lowercase().chars().filter_map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_keeps_all_its_letters_in_an_address() {
        for name in FIRST_NAMES.iter().chain(&LAST_NAMES) {
            let letters = name.chars().filter(|letter| letter.is_alphabetic()).count();
            assert_eq!(in_address(name).len(), letters, "{name}");
        }
        assert_eq!(in_address("O'Shea"), "oshea");
        assert_eq!(in_address("Zoë"), "zoe");
    }

    #[test]
    fn the_weights_of_the_departments_add_up_to_100() {
        assert_eq!(DEPARTMENTS.iter().map(|department| department.weight).sum::<u64>(), 100);
    }
}
