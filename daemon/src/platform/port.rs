//! Who holds a local TCP port. The client asks the same with the user's own rights, which are
//! more than a service's: see [`borealis_proto::port_holder`].

pub use borealis_proto::port_holder::of as holder;
