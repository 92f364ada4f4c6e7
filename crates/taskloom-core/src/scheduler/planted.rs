//! Faults planted on purpose, so that the simulator can prove that it finds such faults.
//! Without the feature `planted` there is no way to switch one on, and nothing of them is left.

use super::Scheduler;

/// One broken rule each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A copy of a result that nobody asked its worker for stays there.
    LateCopyStays,
    /// An outcome counts whatever attempt it is of.
    AttemptIgnored,
    /// What was sent ahead stays when its input is made elsewhere.
    RunAheadStays,
    /// The resources of a freed run are free at once.
    GhostsAreFree,
    /// Workers do not hear where a lost input was made again.
    HoldersUntold,
    /// Idle workers take what they may not run.
    RestrictionIgnored,
    /// Outputs of a graph that nobody asked for are kept.
    UnaskedStay,
    /// One client's cancel is everybody's.
    CancelTakesAll,
    /// The verdict on a crash is not carried out.
    LimboForever,
    /// The worker of a suspect stays closed to others when it is done.
    ReservationStays,
    /// A suspect keeps its worker to itself while it waits for what only that can make.
    SuspectBlocksItsInput,
    /// A value that a client scattered and that is lost on the way is waited for.
    ScatterWaitsForever,
    /// What a client held is not free when the client is gone.
    LeasesOutliveClients,
    /// Items of a queue come back although their receiver has them.
    TakenItemsComeBack,
    /// A pause before another attempt does not end.
    DelayedForever,
    /// A run beyond its hard limit goes on.
    StuckIgnored,
    /// An actor is not made again although there is a snapshot.
    ActorStaysLost,
}

#[cfg(feature = "planted")]
impl Fault {
    pub const ALL: [Self; 17] = [
        Self::LateCopyStays,
        Self::AttemptIgnored,
        Self::RunAheadStays,
        Self::GhostsAreFree,
        Self::HoldersUntold,
        Self::RestrictionIgnored,
        Self::UnaskedStay,
        Self::CancelTakesAll,
        Self::LimboForever,
        Self::ReservationStays,
        Self::SuspectBlocksItsInput,
        Self::ScatterWaitsForever,
        Self::LeasesOutliveClients,
        Self::TakenItemsComeBack,
        Self::DelayedForever,
        Self::StuckIgnored,
        Self::ActorStaysLost,
    ];
}

impl Scheduler {
    /// Whether this rule is broken on purpose.
    #[cfg(feature = "planted")]
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.config.planted == Some(fault)
    }

    #[cfg(not(feature = "planted"))]
    #[inline]
    pub(super) fn has(&self, _fault: Fault) -> bool {
        false
    }
}
