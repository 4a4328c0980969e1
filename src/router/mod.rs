//! Switching between event consumers without losing or reordering an event (Microsoft, US
//! 8,484,660: reference 003).
//!
//! ```text
//! Routing(a) --switch(b)--> Draining(a, b) --Reset consumed by a--> Routing(b)
//! ```
//! Planned; nothing is built yet. The room stands where it will be used from: plain code below
//! sessions, generic over the event.
