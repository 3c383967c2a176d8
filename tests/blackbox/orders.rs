//! Law 5 on the stories: all 720 orders of the six deciding events give the same answers.

use super::road::{asking, engine, get, memory_log};
use super::stories::stories;

#[test]
fn all_720_orders_of_the_deciding_events_give_the_same_answers() {
    let stories = stories();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let stories = &stories;
            scope.spawn(move || {
                for story in stories {
                    for number in (half..720).step_by(2) {
                        let log = memory_log(story.reordered(number).into_iter().map(str::as_bytes));
                        let answers = asking(Some(engine(log)), async |server| {
                            let mut answers = std::collections::HashMap::new();
                            for at in story.orderless() {
                                let ask = &story.questions[at].ask;
                                let (status, answer) = server.call(get(ask)).await;
                                answers.insert(ask.clone(), (status.as_u16(), answer));
                            }
                            answers
                        });
                        story.check(story.orderless(), &format!("order {number}"), |ask| answers[ask].clone());
                    }
                }
            });
        }
    });
}
