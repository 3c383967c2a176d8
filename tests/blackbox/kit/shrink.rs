//! Reduces a history to the smallest part in which the model and the server differ.

use serde_json::{Value, json};

use crate::kit::histories::{History, history_of_roles, percent_encoded};
use crate::kit::model::{Cut, rfc3339};
use crate::kit::play::{Act, Step, perform};
use crate::kit::server::{Server, now_ms};
use crate::kit::stage::Stage;
use crate::laws::directories_equal_model::first_difference;

/// Reduces history `seed` of roles, and returns what is left and how the two differ.
pub fn smallest_of_roles(seed: u64) -> String {
    smallest(seed, history_of_roles(seed), difference_in_roles)
}

/// Removes every step of a history without which the two still differ, and returns the steps left
/// and the difference.
pub fn smallest(
    seed: u64,
    history: History,
    difference: impl Fn(&Stage) -> Option<String>,
) -> String {
    let difference = |steps: &[&Step]| {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = Stage::new(Some(Server::start(folder.path())));
        steps.iter().for_each(|step| apply(&mut stage, step));
        difference(&stage)
    };
    let (mut stage, mut steps) = (Stage::new(None), Vec::new());
    perform(seed, history, &mut stage, |stage, step| {
        apply(stage, &step);
        steps.push(step);
    });
    let mut kept: Vec<&Step> = steps.iter().collect();
    if difference(&kept).is_none() {
        return format!("history {seed}: no difference at any cut that was tried");
    }
    let mut size = kept.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < kept.len() {
            let fewer: Vec<&Step> =
                kept[..at].iter().chain(&kept[(at + size).min(kept.len())..]).copied().collect();
            if difference(&fewer).is_some() {
                kept = fewer;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    let told: Vec<String> = kept.iter().map(|step| describe(step)).collect();
    format!("history {seed}:\n{}\n{}", told.join("\n"), difference(&kept).unwrap_or_default())
}

fn apply(stage: &mut Stage, step: &Step) {
    match step {
        Step::Deliver(delivery) => stage.deliver(&delivery.body, now_ms() + delivery.shift_ms),
        Step::Act(Act::Policy(inactive_users, from)) => stage.set_policy(inactive_users, *from),
        Step::Act(Act::Mapping(mapping, from, note)) => {
            drop(stage.set_mapping(mapping, *from, note.clone()))
        }
        Step::Act(Act::Deletion(directory)) => stage.delete_directory(directory),
        Step::Act(Act::Link(app_user, user)) => stage.set_link(app_user, user),
        Step::Act(Act::Unlink(user)) => stage.remove_link(user),
    }
}

fn describe(step: &Step) -> String {
    let from = |from: &Option<i64>| from.map_or("now".to_owned(), rfc3339);
    match step {
        Step::Deliver(delivery) => match serde_json::from_slice::<Value>(&delivery.body) {
            Ok(body) => body.to_string(),
            Err(_) => String::from_utf8_lossy(&delivery.body).into_owned(),
        },
        Step::Act(Act::Policy(inactive_users, moment)) => {
            format!("policy {inactive_users} from {}", from(moment))
        }
        Step::Act(Act::Mapping(mapping, moment, _)) => {
            format!("mapping {mapping} from {}", from(moment))
        }
        Step::Act(Act::Deletion(directory)) => format!("deletion of {directory}"),
        Step::Act(Act::Link(app_user, user)) => format!("link of {app_user} to {user}"),
        Step::Act(Act::Unlink(user)) => format!("removal of the link of {user}"),
    }
}

/// Returns the first difference in any user's periods or in all assignments, at every moment, as
/// known at every record.
fn difference_in_roles(stage: &Stage) -> Option<String> {
    let (world, now) = (&stage.world, now_ms());
    let differ = |url: &str, model: Value| {
        let server = stage.without_recorded_at(stage.server().get(url).json()["data"].clone());
        let difference = first_difference(&server, &model);
        (server != model)
            .then(|| format!("{url}\n server {server:#}\n model  {model:#}\n {difference}"))
    };
    (0..=world.head()).rev().find_map(|known_at| {
        let cut = Cut { as_of_ms: None, known_at: Some(known_at) };
        let users = world.ids().users;
        let mut periods =
            users.iter().filter_map(|user| Some((user, world.role_periods(user, cut)?)));
        let differing = periods.find_map(|(user, periods)| {
            differ(
                &format!(
                    "/rollcall/v1/users/{}/roles?limit=1000&known_at={known_at}",
                    percent_encoded(user)
                ),
                json!(periods),
            )
        });
        let moments = world.turning_points(cut).into_iter().filter(|moment| *moment < now);
        differing.or_else(|| {
            moments.into_iter().find_map(|moment| {
                let url = format!(
                    "/rollcall/v1/role_assignments?limit=1000&known_at={known_at}&as_of={}",
                    rfc3339(moment)
                );
                differ(
                    &url,
                    json!(world.role_assignments(&[], Cut { as_of_ms: Some(moment), ..cut })),
                )
            })
        })
    })
}
