//! `rollcall status`, the page that an operator opens first.

use serde_json::json;

use crate::calls::metrics::{delete, fill};
use crate::cli::read::{ask, out};
use crate::faults::full_disk::wait_until;
use crate::kit::server::{SECRET, Server, now_ms, signature, user};

/// Returns the page.
fn page(server: &Server) -> Vec<String> {
    out(&ask(server, &["status"])).lines().map(str::to_owned).collect()
}

#[test]
fn the_first_line_says_that_all_is_well_or_what_needs_attention() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let empty = page(&server);
    assert_eq!(empty[0], "1 thing needs attention");
    assert!(empty[1].starts_with("  ! no event was received yet: "), "{empty:?}");

    server.deliver(&user("u", "d", "ana", "2026-01-01T00:00:00Z", "e1", "dsync.user.created"));
    let well = page(&server);
    assert_eq!(well[0], "all is well");
    let row = |name: &str| well.iter().find(|line| line.starts_with(name)).unwrap();
    assert!(row("last event").contains(" ago, at 20"), "{well:?}");
    assert!(row("disk").contains(" MiB free; below 16 MiB events are refused"), "{well:?}");

    let wrong = signature("whsec_other", &now_ms().to_string(), b"{}");
    assert_eq!(server.post_with(b"{}", &[("WorkOS-Signature", &wrong)]).status, 401);
    let good = signature(SECRET, &now_ms().to_string(), b"not an event");
    assert_eq!(server.post_with(b"not an event", &[("WorkOS-Signature", &good)]).status, 200);
    let doubtful = page(&server);
    assert_eq!(doubtful[0], "2 things need attention");
    assert!(doubtful[1].contains("signature_mismatch, 1 since the start"), "{doubtful:?}");
    assert!(doubtful[1].ends_with("`rollcall config check --probe`"), "{doubtful:?}");
    let quarantine = "  ! records of the last day are in the quarantine (not_an_event 1): ";
    assert!(doubtful[2].starts_with(quarantine), "{doubtful:?}");
}

#[test]
fn many_users_who_lost_access_and_a_directory_that_is_not_linked_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    fill(&server, "directory_a", 12);
    fill(&server, "directory_b", 1);
    assert_eq!(page(&server)[0], "all is well");
    let ended = json!({"id": "directory_b", "organization_id": "org_1", "name": "directory_b"});
    let ended = json!({"id": "e", "event": "dsync.deactivated",
        "created_at": "2026-02-01T00:00:00.000Z", "data": ended});
    server.deliver(&ended.to_string());
    delete(&server, "directory_a", 0..11);
    wait_until("the losses are tallied", || page(&server)[0] == "2 things need attention");
    let page = page(&server);
    let expected = "  ! losses of access by many users were recorded within the last hour, in \
                    directory_a: `rollcall deprovisioned --since 25h`";
    assert_eq!(page[1], expected);
    let expected =
        "  ! 1 directory is not linked (directory_b is unlinked): `rollcall directories`";
    assert_eq!(page[2], expected);
}
