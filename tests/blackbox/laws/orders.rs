//! Law 5 on the stories: any order of the six deciding events gives the same answers.

use std::collections::HashMap;
use std::sync::Arc;

use rollcall::log::{Log, MemoryLog};
use serde_json::Value;

use crate::kit::road::{act, asking, engine, get, memory_log, verified};
use crate::kit::scale::{check_each, scale};
use crate::kit::server::now_ms;
use crate::laws::stories::{Step, Story, stories};

/// Makes a log of the story's events in one order of the deciding six, with its acts at their
/// places.
fn told(story: &Story, number: usize) -> Arc<MemoryLog> {
    let log = memory_log([]);
    for step in Story::steps(story.reordered(number), story.deeds()) {
        match step {
            Step::Event(event) => {
                drop(log.append(vec![verified(event.as_bytes())], now_ms()).unwrap())
            }
            // Acts are decided over what is folded by then.
            Step::Act(deed) => asking(Some(engine(log.clone())), async |server| {
                assert_eq!(server.call(act(deed)).await.0.as_u16(), deed.status, "{}", story.name);
            }),
        }
    }
    log
}

/// All 720 orders are played at this scale or more, and at scale 1 every twelfth.
const SCALE_OF_ALL: u64 = 12;

#[test]
fn the_deciding_events_give_the_same_answers_in_any_order() {
    let stories = stories();
    let stride = (SCALE_OF_ALL / scale()).max(1);
    check_each(0..720 / stride, 2, |place| {
        let number = (place * stride) as usize;
        stories.iter().for_each(|story| check(story, number));
    });
}

fn check(story: &Story, number: usize) {
    let answers = asking(Some(engine(told(story, number))), async |server| {
        let mut answers: HashMap<String, (u16, Value)> = HashMap::new();
        for at in story.orderless() {
            let ask = &story.questions[at].ask;
            let (status, answer) = server.call(get(ask)).await;
            answers.insert(ask.clone(), (status.as_u16(), answer));
        }
        answers
    });
    story.check(story.orderless(), &format!("order {number}"), |ask| answers[ask].clone());
}
