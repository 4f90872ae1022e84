//! Received packets (`struct sk_buff`).

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;

use super::untyped_net_id;

/// A received packet, behind an untyped pointer.
#[derive(Clone, Copy)]
pub struct Packet(*const u8);

impl Packet {
    #[inline(always)]
    pub fn new(base: *const c_void) -> Self {
        Self(base.cast())
    }

    /// The network namespace of the packet's route (`skb_dst(skb)->dev`).
    #[inline(always)]
    pub fn netns(self) -> u32 {
        // The lowest bit is a flag: the route is not reference-counted (SKB_DST_NOREF).
        let route = (probe_read!(self.0, skb_refdst: usize) & !1) as *const u8;
        let device = probe_read!(route, dst_dev: usize) as *const u8;
        let net = probe_read!(device, dev_net: usize) as *const u8;
        untyped_net_id(net)
    }

    /// The destination port in the TCP header, which is the local port.
    #[inline(always)]
    pub fn destination_port(self) -> u16 {
        let head = probe_read!(self.0, skb_head: usize) as *const u8;
        let header = head.wrapping_add(probe_read!(self.0, skb_transport_header: u16) as usize);
        // SAFETY: the helper checks the address.
        let port = unsafe { bpf_probe_read_kernel(header.wrapping_add(2).cast::<u16>()) };
        u16::from_be(port.unwrap_or_default())
    }
}
