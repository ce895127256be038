//! All that is saved, and its changes as data. Pure; each part has its own commands.

use crate::{
    refusal::RequestError,
    state::{
        commands::{self, MeetingCommand},
        meetings::{MeetingChanges, MeetingTable},
    },
};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MasterState {
    pub(crate) meetings: MeetingTable,
}

/// The differences that one command made, or several one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StateChanges {
    pub(crate) meetings: MeetingChanges,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StateCommand {
    Meeting(MeetingCommand),
}

impl From<MeetingCommand> for StateCommand {
    fn from(command: MeetingCommand) -> Self {
        Self::Meeting(command)
    }
}

impl From<MeetingChanges> for StateChanges {
    fn from(meetings: MeetingChanges) -> Self {
        Self { meetings }
    }
}

impl StateChanges {
    /// These, and then `later` ones.
    pub(crate) fn extend(&mut self, later: Self) {
        self.meetings.extend(later.meetings);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.meetings.is_empty()
    }
}

impl MasterState {
    /// Carries out what [`apply`] answered.
    pub(crate) fn merge(&mut self, changes: &StateChanges) {
        self.meetings.merge(&changes.meetings);
    }

    /// Applies `command` to the state itself, which stays as it is where that is refused.
    pub(crate) fn execute(
        &mut self,
        command: &StateCommand,
        next_token: String,
    ) -> Result<StateChanges, RequestError> {
        let changes = apply(self, command, next_token)?;
        self.merge(&changes);
        Ok(changes)
    }
}

/// Returns what `command` changes, with `next_token` where clients have to look again.
pub(crate) fn apply(
    state: &MasterState,
    command: &StateCommand,
    next_token: String,
) -> Result<StateChanges, RequestError> {
    match command {
        StateCommand::Meeting(command) => {
            commands::apply(&state.meetings, command, next_token).map(StateChanges::from)
        }
    }
}
