//! Faults planted on purpose, so that the simulator can prove that it finds such faults.
//! Without the feature `planted` there is no way to switch one on, and nothing of them is left.
//!
//! Most are faults that a distributed scheduler once had; their numbers are those of
//! `docs/design/scenarios.md`.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $scenario:literal,)*) => {
        /// One broken rule each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        #[cfg(feature = "planted")]
        impl Fault {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The historical scenario that it is a case of; empty if it is one of our own.
            #[must_use]
            pub fn scenario(self) -> &'static str {
                match self {
                    $(Self::$name => $scenario,)*
                }
            }
        }
    };
}

faults! {
    // Of the scheduler.

    /// A copy of a result that nobody asked its worker for stays there.
    LateCopyStays: "D18",
    /// An outcome counts whatever attempt it is of.
    AttemptIgnored: "D26",
    /// An error counts although its run was taken over.
    LateErrorCounts: "D01",
    /// What was sent ahead stays when its input is made elsewhere.
    RunAheadStays: "",
    /// The resources of a freed run are free at once.
    GhostsAreFree: "",
    /// Workers do not hear where a lost input was made again.
    HoldersUntold: "D10",
    /// Who is to fetch a value counts as its holder before it has it.
    HolderBeforeArrival: "D03",
    /// A queued task stays queued when its input is lost.
    QueuedWithoutInput: "D04",
    /// A task is thought to be given back although it has moved on.
    GivenBackBlindly: "D07",
    /// A reschedule counts in any state.
    RescheduledBlindly: "D19",
    /// A failed task that others were to use is never forgotten.
    ErredStays: "D16",
    /// Results that come while a worker retires are not copied elsewhere.
    LateResultsStayBehind: "D20",
    /// The tasks of a lost worker stay with it.
    LostWorkerKeepsTasks: "D22",
    /// A worker that is silent is never given up.
    SilenceIgnored: "D24",
    /// A word that a run left its slot counts in any state.
    SecededBlindly: "D26",
    /// Asking for a key that nobody knows is forgotten.
    DesireForgotten: "D27",
    /// An orderly end counts as a failure of what ran.
    OrderlyEndIsBlamed: "D29",
    /// One broken transfer makes a worker count as lost.
    BrokenTransferLosesWorker: "D35",
    /// A run waits again and again for an input from a worker that it does not reach.
    GapsAreWaitedFor: "",
    /// What follows a stale report in its message is lost.
    RestOfMessageLost: "D36",
    /// A task is taken over before its worker has given it up.
    StolenWithoutAsking: "D42",
    /// What the futures of a client that is gone held stays.
    HoldsOutliveClients: "D43",
    /// Where no failures are allowed, they are not counted.
    NoFailuresMeansEndless: "D44",
    /// Idle workers take what they may not run.
    RestrictionIgnored: "",
    /// Outputs of a graph that nobody asked for are kept.
    UnaskedStay: "D43",
    /// One client's cancel is everybody's.
    CancelTakesAll: "",
    /// The verdict on a crash is not carried out.
    LimboForever: "D41",
    /// The worker of a suspect stays closed to others when it is done.
    ReservationStays: "",
    /// A suspect keeps its worker to itself while it waits for what only that can make.
    SuspectBlocksItsInput: "",
    /// A value that a client scattered and that is lost on the way is waited for.
    ScatterWaitsForever: "",
    /// What a client held is not free when the client is gone.
    LeasesOutliveClients: "",
    /// Items of a queue come back although their receiver has them.
    TakenItemsComeBack: "",
    /// A pause before another attempt does not end.
    DelayedForever: "",
    /// A run beyond its hard limit goes on.
    StuckIgnored: "",
    /// An actor is not made again although there is a snapshot.
    ActorStaysLost: "",
    /// A client that has come back still counts as away.
    ReturnIgnored: "",
    /// A supervisor that comes late is not told what was asked meanwhile.
    ErrandsForgotten: "",

    // Of the worker.

    /// A task that comes while the same task is being fetched is not taken.
    ComputeLostToFetch: "D02",
    /// A freed run is forgotten, and so is what it occupied.
    FreedRunForgotten: "D08",
    /// An answer is read only up to the first value that nobody needs any more.
    AnswerCutShort: "D11",
    /// An error of a freed run ends its successor.
    OldErrorEndsNewRun: "D12",
    /// An input that nobody needs any more is not forgotten.
    UnneededInputStays: "D13",
    /// When an input cannot be fetched that is to be made here, its run is dropped.
    FailedFetchDropsRun: "D14",
    /// When one replica cannot be had, no other is tried.
    OtherReplicasUntried: "D15",
    /// A task that is known as an input only is not taken as a run.
    KnownInputNotRun: "D17",
    /// A replica that arrives takes the place of the run of the same task.
    ReplicaReplacesRun: "D18",
    /// What was asked of a peer that is gone is waited for.
    LostPeerWaitedFor: "D21",

    // Of the client, which is in `taskloom-runtime`.

    /// The release of a key is told twice.
    ReleasedTwice: "",
    /// What was released still hears news, and has its name.
    ReleasedStaysKnown: "",
    /// A key that is just being released is used for new work.
    LeavingUsedAgain: "",
    /// A cancelled future keeps its key's name.
    CancelledKeepsName: "",
    /// A result is still thought to be where it could not be found.
    FailedFetchBelieved: "",
    /// In a new session, finished results are not claimed.
    ClaimsLeaveOutFinished: "",
    /// Questions of a session that is over stay open.
    OldQuestionsStayOpen: "",
    /// What was being cancelled when a session ended is submitted again.
    CancelLostWithSession: "",
}
