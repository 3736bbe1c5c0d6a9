//! How do threads share work that takes microseconds? By claiming numbered tasks, without falling asleep between phases.
//!
//! A step of a decoder is some hundred small phases, each of which needs the one before. Waking a thread of the pool for
//! each would cost more than the work. Here helpers join once a step and then look for tasks by spinning. Nobody waits
//! for a helper that has not come: whoever leads does every task that no one else has claimed. So a pool whose threads
//! are busy elsewhere makes a step slower, and never stops it.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// A task of a phase, by its number.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// Looks at memory before the processor is offered to others: about 20 microseconds.
const SPINS: u32 = 1000;

/// Who works on the phases of a step.
#[derive(Default)]
pub(crate) struct Team {
    /// Tasks of the phase in the upper half, the first one not claimed in the lower.
    state: AtomicU64,
    /// The job of the phase: valid as long as a claimed task is not finished.
    job: AtomicPtr<Job<'static>>,
    finished: AtomicUsize,
    over: AtomicBool,
    alone: bool,
}

impl Team {
    /// Calls `lead` with a team of all threads of the pool.
    pub(crate) fn run<R: Send>(lead: impl FnOnce(&Team) -> R + Send) -> R {
        let helpers = rayon::current_num_threads() - 1;
        let team = Team { alone: helpers == 0, ..Team::default() };
        if team.alone {
            return lead(&team);
        }
        rayon::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| team.help());
            }
            // Helpers must see the end even if a task panics.
            let _over = Flag(&team.over);
            lead(&team)
        })
    }

    /// Does `job` for every number below `tasks`, each once; back when all are done.
    pub(crate) fn phase(&self, tasks: usize, job: Job<'_>) {
        if self.alone || tasks < 2 {
            (0..tasks).for_each(job);
            return;
        }
        self.finished.store(0, Ordering::Relaxed);
        self.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        // `tasks` are pieces of matrices: far fewer than 2^32.
        self.state.store((tasks as u64) << 32, Ordering::Release);
        let _phase = Phase(self);
        while self.task() {}
    }

    /// Claims and does one task, if there is one.
    fn task(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let (tasks, next) = (state >> 32, state & 0xffff_ffff);
        if next >= tasks {
            return false;
        }
        // The exchange succeeds only for a task of the phase that is under way, whenever `state` was read.
        if self.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            let _done = Done(&self.finished);
            // SAFETY: a task of this phase is claimed and not finished, so `Phase` is not dropped, and the job on the
            // leader's stack is there; it was stored before the state that was read.
            let job = unsafe { *self.job.load(Ordering::Relaxed) };
            job(next as usize);
        }
        true
    }

    /// Does tasks until the step is over.
    fn help(&self) {
        let mut spins = 0;
        while !self.over.load(Ordering::Acquire) {
            if self.task() {
                spins = 0;
            } else {
                pause(&mut spins);
            }
        }
    }
}

/// A moment, spent idle or given to whoever waits for the processor.
fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// The end of a phase, also when a task of the leader panics: nobody claims a task any more, and nobody holds the job.
struct Phase<'a>(&'a Team);

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        let claimed = (self.0.state.swap(0, Ordering::AcqRel) & 0xffff_ffff) as usize;
        let mut spins = 0;
        while self.0.finished.load(Ordering::Acquire) < claimed {
            pause(&mut spins);
        }
    }
}

/// Counts a task as finished, also when it panics.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Says that a step is over.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn every_task_is_done_once_and_phases_follow_one_another() {
        for threads in [1, 2, 5] {
            let counts: Vec<AtomicUsize> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            in_pool(threads, || {
                Team::run(|team| {
                    for phase in 0..2000 {
                        let tasks = phase % 101;
                        team.phase(tasks, &|i| {
                            // All earlier phases are visible.
                            let before = counts[i].fetch_add(1, Ordering::Relaxed);
                            let want = (0..phase).filter(|p| p % 101 > i).count();
                            assert_eq!(before, want);
                        });
                    }
                });
            });
        }
    }

    #[test]
    fn a_busy_pool_and_teams_inside_tasks_of_the_pool_do_not_stop_it() {
        use rayon::prelude::*;
        let sum: usize = in_pool(2, || {
            (0..64usize)
                .into_par_iter()
                .map(|i| {
                    let total = AtomicUsize::new(0);
                    Team::run(|team| {
                        for _ in 0..20 {
                            team.phase(8, &|task| {
                                total.fetch_add(task + i, Ordering::Relaxed);
                            });
                        }
                    });
                    total.into_inner()
                })
                .sum()
        });
        assert_eq!(sum, (0..64).map(|i| 20 * (28 + 8 * i)).sum::<usize>());
    }

    #[test]
    fn a_panic_in_a_task_comes_out() {
        let result = std::panic::catch_unwind(|| {
            in_pool(2, || Team::run(|team| team.phase(50, &|i| assert!(i != 31))));
        });
        assert!(result.is_err());
    }
}
