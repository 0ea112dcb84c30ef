//! The table of a workload's clients.

use std::collections::VecDeque;

use super::faults::Fault;
use super::ledger::Ledger;
use super::run::Run;
use crate::net::Dial;

/// The clients of a workload by key, with the messages of each and the order of their turns.
///
/// A closed client's ledger stays: messages keep falling due to it, and are unanswered in the end.
#[derive(Debug)]
pub(super) struct Clients<C> {
    slots: Vec<Slot<C>>,
    connected: usize,
    /// Clients that could go on without a further event, in the order of their turns.
    turns: VecDeque<usize>,
}

#[derive(Debug)]
struct Slot<C> {
    /// None before it is connected, and after it is closed.
    client: Option<C>,
    ledger: Ledger,
    /// True if the key is in `turns`.
    has_turn: bool,
}

impl<C> Clients<C> {
    /// A table of `count` clients, none of them connected.
    pub(super) fn new(count: usize) -> Self {
        let slot = || Slot {
            client: None,
            ledger: Ledger::default(),
            has_turn: false,
        };
        Self {
            slots: std::iter::repeat_with(slot).take(count).collect(),
            connected: 0,
            turns: VecDeque::new(),
        }
    }

    /// Number of clients, connected or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Number of connected clients.
    pub(super) fn connected(&self) -> usize {
        self.connected
    }

    /// Adds a client that has connected.
    pub(super) fn insert(&mut self, key: usize, client: C) {
        if self.slots[key].client.replace(client).is_none() {
            self.connected += 1;
        }
    }

    /// A connected client.
    pub(super) fn get(&self, key: usize) -> Option<&C> {
        self.slots[key].client.as_ref()
    }

    /// A connected client, and its messages.
    pub(super) fn get_mut(&mut self, key: usize) -> Option<(&mut C, &mut Ledger)> {
        let Slot { client, ledger, .. } = &mut self.slots[key];
        Some((client.as_mut()?, ledger))
    }

    /// The messages of a client, connected or not.
    pub(super) fn ledger(&mut self, key: usize) -> &mut Ledger {
        &mut self.slots[key].ledger
    }

    /// Removes a client from the table.
    pub(super) fn remove(&mut self, key: usize) -> Option<C> {
        self.remove_if(key, |_| true)
    }

    /// Removes a client from the table if a condition is met.
    pub(super) fn remove_if(&mut self, key: usize, is_due: impl FnOnce(&C) -> bool) -> Option<C> {
        let client = self.slots[key].client.take_if(|client| is_due(client))?;
        self.connected -= 1;
        Some(client)
    }

    /// Connected clients with their keys, and their messages.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &C, &Ledger)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(key, slot)| Some((key, slot.client.as_ref()?, &slot.ledger)))
    }

    /// True if no client, connected or not, has a message to send.
    pub(super) fn are_all_sent(&self) -> bool {
        self.slots.iter().all(|slot| slot.ledger.unsent() == 0)
    }

    /// True if no connected client has a message that is due or in flight.
    pub(super) fn are_settled(&self) -> bool {
        self.iter().all(|(_, _, ledger)| ledger.is_settled())
    }
}

/// Due messages.
impl<C> Clients<C> {
    /// Begins: without a schedule messages are always due, and each client has a turn.
    pub(super) fn begin<N: Dial>(&mut self, run: &Run<N>) {
        if run.schedule.is_some() {
            return;
        }
        for key in 0..self.slots.len() {
            self.slots[key].ledger.fall_due_always();
            self.push_turn(key);
        }
    }

    /// Takes the messages from the schedule that have become due. The first `senders` clients send
    /// them, one after the other, and have a turn for each.
    pub(super) fn fall_due<N: Dial>(&mut self, senders: usize, run: &mut Run<N>) {
        while let Some(index) = run.next_due() {
            let key = usize::try_from(index % senders as u64).unwrap_or(0);
            self.slots[key].ledger.fall_due();
            self.push_turn(key);
        }
    }

    /// Ends: without a schedule nothing more is due.
    pub(super) fn finish<N: Dial>(&mut self, run: &Run<N>) {
        if run.schedule.is_none() {
            for slot in &mut self.slots {
                slot.ledger.cancel_unsent();
            }
        }
    }

    /// Closes a client, which leaves its messages unanswered.
    pub(super) fn close<N: Dial>(&mut self, key: usize, fault: Fault, run: &mut Run<N>) {
        self.remove(key);
        self.give_up_messages(key, fault, run);
    }

    /// Counts everything due or in flight as missed, whether its client is connected or not.
    pub(super) fn give_up<N: Dial>(&mut self, fault: Fault, run: &mut Run<N>) {
        for key in 0..self.slots.len() {
            self.give_up_messages(key, fault, run);
        }
    }

    fn give_up_messages<N: Dial>(&mut self, key: usize, fault: Fault, run: &mut Run<N>) {
        let senders = self.slots.len();
        let ledger = &mut self.slots[key].ledger;
        if run.schedule.is_some() {
            let numbers = ledger.next()..ledger.due().max(ledger.next());
            ledger.send(run.send_times(key, senders, numbers));
        }
        let now = run.clock();
        ledger.skip_answered();
        while let Some(sent) = ledger.pop() {
            run.tally.missed(fault, sent, now);
            ledger.skip_answered();
        }
    }
}

/// Turns.
impl<C> Clients<C> {
    /// Appends a client to the turns, unless it is among them.
    pub(super) fn push_turn(&mut self, key: usize) {
        if !std::mem::replace(&mut self.slots[key].has_turn, true) {
            self.turns.push_back(key);
        }
    }

    /// Removes the client whose turn it is.
    pub(super) fn next_turn(&mut self) -> Option<usize> {
        let key = self.turns.pop_front()?;
        self.slots[key].has_turn = false;
        Some(key)
    }

    /// Number of clients that have a turn.
    pub(super) fn turns(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn clear_turns(&mut self) {
        while self.next_turn().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_one_turn_in_order() {
        let mut clients: Clients<()> = Clients::new(3);
        for key in [2, 0, 2, 0] {
            clients.push_turn(key);
        }
        assert_eq!((clients.turns(), clients.next_turn()), (2, Some(2)));
        clients.push_turn(2);
        assert_eq!(
            (clients.next_turn(), clients.next_turn()),
            (Some(0), Some(2))
        );
        clients.push_turn(1);
        clients.clear_turns();
        assert_eq!(clients.next_turn(), None);
    }

    #[test]
    fn connected_clients_are_counted() {
        let mut clients = Clients::new(3);
        clients.insert(1, 'a');
        clients.insert(2, 'b');
        clients.ledger(2).fall_due();
        assert_eq!((clients.len(), clients.connected()), (3, 2));
        assert_eq!((clients.get(0), clients.get(1)), (None, Some(&'a')));
        assert!(!clients.are_settled());
        assert_eq!(clients.remove_if(1, |_| false), None);
        assert_eq!((clients.remove(2), clients.remove(2)), (Some('b'), None));
        assert_eq!((clients.connected(), clients.are_settled()), (1, true));
    }
}
