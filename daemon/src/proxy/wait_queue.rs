//! Clients that wait for a tunnel: let through one after the other in the order in which
//! they came, and as long as one waits, the session is asked to try.

use std::time::Duration;

use rand::RngExt as _;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

use crate::tunnels::Gate;

/// How often an attempt is asked for while somebody waits. Without it a client that came
/// during a long outage waits for a backoff that is longer than its patience.
const NUDGE_AGAIN: Duration = Duration::from_secs(5);

/// The queue before a session's gate.
pub(crate) struct WaitQueue {
    /// Tokio's semaphore serves first who came first.
    head: Semaphore,
}

// === impl WaitQueue ===

impl WaitQueue {
    pub(crate) fn new() -> Self {
        Self {
            head: Semaphore::new(1),
        }
    }

    /// Waits until the gate holds no longer, and all who came before have passed; `None`
    /// where the session has ended. Dropping the future gives up the place.
    pub(crate) async fn wait_turn(
        &self,
        mut gate: watch::Receiver<Gate>,
        client_waits: &mpsc::Sender<()>,
    ) -> Option<Gate> {
        if *gate.borrow() == Gate::Open {
            return Some(Gate::Open);
        }
        // Full means that the signal is on its way already.
        let _ = client_waits.try_send(());
        let _head = self.head.acquire().await.ok()?;
        loop {
            let pause = NUDGE_AGAIN.mul_f64(rand::rng().random_range(0.5..1.5));
            let decided = gate.wait_for(|gate| !matches!(gate, Gate::Hold(_)));
            match timeout(pause, decided).await {
                Ok(decided) => return decided.ok().map(|gate| gate.clone()),
                Err(_) => drop(client_waits.try_send(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_came_first_is_served_first_and_who_has_gone_is_not_waited_for() {
        let wait_queue = Arc::new(WaitQueue::new());
        let gate = watch::Sender::new(Gate::Hold(None));
        let (signal, mut waits) = mpsc::channel(1);
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut clients = Vec::new();
        for number in 0..20 {
            let (wait_queue, gate, signal) =
                (Arc::clone(&wait_queue), gate.subscribe(), signal.clone());
            let served = Arc::clone(&served);
            clients.push(tokio::spawn(async move {
                assert_eq!(wait_queue.wait_turn(gate, &signal).await, Some(Gate::Open));
                served.lock().unwrap().push(number);
            }));
            tokio::task::yield_now().await;
        }
        for gone in [0, 7] {
            clients[gone].abort();
        }
        // Somebody waits, so an attempt is asked for again and again.
        for _ in 0..5 {
            let asked = timeout(NUDGE_AGAIN * 2, waits.recv()).await;
            assert_eq!(asked, Ok(Some(())));
        }
        assert_eq!(*served.lock().unwrap(), [0; 0]);
        gate.send_replace(Gate::Open);
        for client in clients {
            let _ = client.await;
        }
        let expected: Vec<_> = (0..20).filter(|number| ![0, 7].contains(number)).collect();
        assert_eq!(*served.lock().unwrap(), expected);
    }
}
