//! JSON that base, nodes and clients send each other: what is read, written and read again is the
//! same, for every shape.

use std::fmt::Debug;

use headend::dist::command::{attributes_digest, check_attributes};
use headend::dist::wire::agent::{HelloBody, NodeOrder, Receipt, Reports, WelcomeBody};
use headend::dist::wire::job::{
    Attributes, CommandRequest, DeliveryView, EventView, JobRequest, JobView, NodePatch, NodeView,
    PolicyChange,
};
use headend::dist::wire::peer::{ContentState, NoRoom};
use headend::dist::wire::relay::{Alive, Question, RelayBody};
use headend::dist::wire::report::JobReport;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::input::Input;

/// The first byte says which shape it is.
pub fn wire(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.u8();
    let json = input.rest();
    match what % 19 {
        0 => same::<JobRequest>(json),
        1 => same::<CommandRequest>(json),
        2 => same::<PolicyChange>(json),
        3 => same::<NodePatch>(json),
        4 => same::<HelloBody>(json),
        5 => same::<WelcomeBody>(json),
        6 => same::<NodeOrder>(json),
        7 => same::<Reports>(json),
        8 => same::<RelayBody>(json),
        9 => same::<Question>(json),
        10 => same::<Alive>(json),
        11 => same::<Receipt>(json),
        12 => same::<ContentState>(json),
        13 => same::<NoRoom>(json),
        14 => same::<EventView>(json),
        15 => same::<JobView>(json),
        16 => same::<NodeView>(json),
        17 => same::<DeliveryView>(json),
        _ => same::<JobReport>(json),
    }
    if let Ok(attrs) = serde_json::from_slice::<Attributes>(json)
        && check_attributes(&attrs).is_ok()
    {
        assert!(attrs.mode.is_none_or(|mode| mode <= 0o7777));
        let written = serde_json::to_vec(&attrs).expect("attributes as JSON");
        let read: Attributes = serde_json::from_slice(&written).expect("attributes of ours");
        assert_eq!(attributes_digest(&read), attributes_digest(&attrs));
    }
}

fn same<T: DeserializeOwned + Serialize + Debug>(json: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return };
    let written = serde_json::to_string(&value).expect("a value of ours as JSON");
    let read: T = serde_json::from_str(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
    assert_eq!(serde_json::to_string(&read).expect("the same"), written);
}
