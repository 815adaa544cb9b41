/// What a running machine's devices offer to the outside.
extension Machine {
    /// Asks the guest, when it runs, to give memory back until it has given `pages` (of 4 KiB); it may give fewer.
    public func setBalloon(pages: UInt32) {
        devices.balloon?.whenRunning { device, link in device.setTarget(pages: pages, link) }
    }

    /// Pages the guest says it has given.
    public var balloonPages: UInt32 { devices.balloon?.withDevice { device, _ in device.actualPages } ?? 0 }
}
