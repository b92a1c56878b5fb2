//! One set of sentences that hold of every engine.
//!
//! `every_sentence!` runs all of them against an engine.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test itself does")]

mod subject;

#[cfg(feature = "sqlite")]
mod agree;
mod bounds;
mod clock;
mod dead;
mod dedup;
#[cfg(feature = "redis")]
mod hastened;
mod lease;
mod look;
mod order;
mod wake;

use buttress_queue::{EngineConfig, Memory};
#[cfg(feature = "redis")]
use buttress_queue::{Redis, RedisConfig};
use subject::Subject;

/// A test for each of these sentences, in a module of this name, with the engines that this makes.
macro_rules! sentences {
    ($name:ident, $make:path, $($topic:ident :: $sentence:ident,)*) => {
        mod $name {
            $(#[tokio::test]
            async fn $sentence() {
                crate::$topic::$sentence($make).await;
            })*
        }
    };
}

/// A test for every sentence.
macro_rules! every_sentence {
    ($name:ident, $make:path) => {
        sentences! {
            $name, $make,
            order::jobs_of_a_priority_come_in_the_order_of_their_pushes,
            order::the_more_urgent_come_first,
            order::what_has_waited_for_long_comes_before_what_is_more_urgent,
            order::nothing_comes_before_the_critical_by_waiting,
            order::a_delayed_job_comes_when_its_time_has_come,
            order::no_more_come_than_were_asked_for,
            order::a_hundred_thousand_of_one_millisecond_come_once_each,
            dedup::a_known_id_is_answered_with_where_it_stands,
            dedup::an_id_twice_in_one_push_is_one_job,
            dedup::one_id_from_eight_tasks_is_one_job,
            dedup::an_id_is_forgotten_when_its_time_is_over,
            dedup::an_id_that_was_discarded_is_new_again,
            dedup::a_job_comes_out_as_it_was_pushed,
            lease::a_claimed_job_is_nobody_elses,
            lease::a_job_whose_lease_is_over_comes_again_and_counts_a_crash,
            lease::whoever_lost_a_lease_can_do_nothing_with_it,
            lease::a_late_answer_counts_while_nobody_else_has_the_job,
            lease::a_lease_that_is_extended_is_kept,
            lease::a_lease_ends_once,
            lease::a_retry_counts_an_attempt_and_no_crash,
            lease::a_deferral_counts_nothing,
            lease::what_is_released_goes_back_to_its_place,
            lease::a_crashed_job_goes_back_to_its_place,
            bounds::one_too_many_is_refused,
            bounds::too_many_bytes_are_refused,
            bounds::a_priority_has_a_bound_of_its_own,
            bounds::what_is_done_makes_room,
            bounds::what_is_buried_makes_room,
            bounds::the_oldest_of_the_least_urgent_is_evicted,
            bounds::nothing_critical_is_evicted,
            bounds::nothing_that_is_worked_on_is_evicted,
            bounds::a_push_that_fails_evicts_nothing,
            dead::a_dead_letter_keeps_the_job_the_reason_and_the_counts,
            dead::dead_letters_are_listed_in_pages,
            dead::the_next_page_is_found_when_the_last_letter_is_gone,
            dead::a_replayed_letter_is_a_job_with_no_attempts,
            dead::a_discarded_letter_is_gone,
            dead::what_is_no_letter_is_neither_replayed_nor_discarded,
            dead::of_too_many_letters_the_oldest_are_thrown_away,
            dead::of_too_large_letters_the_oldest_are_thrown_away,
            dead::letters_are_thrown_away_when_their_time_is_over,
            look::the_contents_are_counted_by_type_and_priority,
            look::many_of_many_types_are_counted_right,
            look::what_was_never_there_is_not_found,
            look::a_job_is_found_with_its_counts,
            look::a_job_that_is_done_has_no_more_attempts_than_failed,
            wake::a_push_wakes,
            wake::what_comes_back_wakes,
            wake::what_becomes_due_wakes,
            wake::a_lease_that_is_over_wakes,
            clock::a_clock_that_is_set_forward_hands_out_nothing_twice,
            clock::a_clock_that_is_set_back_loses_nothing,
        }
    };
}

async fn memory(config: EngineConfig) -> Subject {
    Subject::new(Memory::new(config), ())
}

every_sentence!(memory, crate::memory);

/// A queue in a Redis of its own. Where there is none the engine in memory stands in, after a word about it.
#[cfg(feature = "redis")]
async fn redis(config: EngineConfig) -> Subject {
    let Some(server) = buttress_tests::servers::Redis::start().await else {
        return memory(config).await;
    };
    // Patient: many tests run at once.
    let patience = std::time::Duration::from_secs(10);
    let redis = RedisConfig::new(server.url(), "sentences").patience(patience);
    Subject::new(hastened::Hastened::new(Redis::new(redis, config).unwrap(), server.url()), server)
}

#[cfg(feature = "redis")]
every_sentence!(redis, crate::redis);

#[cfg(feature = "sqlite")]
mod in_a_file {
    use buttress_queue::{EngineConfig, Sqlite};

    use super::subject::Subject;

    pub(crate) async fn sqlite(config: EngineConfig) -> Subject {
        let folder = tempfile::tempdir().unwrap();
        Subject::new(Sqlite::open(folder.path().join("queue.db"), config).unwrap(), folder)
    }
}

#[cfg(feature = "sqlite")]
every_sentence!(sqlite, crate::in_a_file::sqlite);
