//! The ground floor: time, identities and limits. Owns nothing, knows no socket and no clock.

pub mod addresses;
pub mod budget;
pub mod carrier;
pub mod host;
pub mod ids;
pub mod leb128;
pub mod limits;
pub mod mode;
pub mod names;
pub mod oldest;
pub mod prefix;
pub mod random;
pub mod rate;
pub mod secret;
pub mod secrets;
pub mod seldom;
pub mod short;
pub mod sink;
pub mod text;
pub mod time;
pub mod url_path;
pub mod wheel;
