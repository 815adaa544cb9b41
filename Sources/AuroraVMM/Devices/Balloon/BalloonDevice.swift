import Linux

/// Takes memory back from the guest (virtio 1.2, section 5.5): on request by inflating, and by itself where the guest
/// reports free pages.
final class BalloonDevice: VirtioDevice {
    typealias State = BalloonState

    private static let mustTellHost: UInt64 = 1 << 0
    private static let deflateOnOutOfMemory: UInt64 = 1 << 2
    private static let pageReporting: UInt64 = 1 << 5
    /// Page numbers looked at in one request; Linux sends 256.
    static let pagesPerRequestMax = 4096
    /// Bytes released of one report; Linux reports 128 MiB at most, and what is not released is merely kept.
    static let reportBytesMax = 256 << 20
    /// Giving a page back costs a fraction of copying it, if it has neighbours.
    private static let bytesOfReportCost = 16

    private static let inflateQueue = 0
    private static let deflateQueue = 1
    /// Linux numbers the queues of features that were agreed on without gaps; statistics are not offered.
    private static let reportingQueue = 2

    let type = VirtioDeviceType.balloon
    let features = BalloonDevice.mustTellHost | BalloonDevice.deflateOnOutOfMemory | BalloonDevice.pageReporting
    let queueSizeMaxima: [UInt16] = [128, 128, 32]

    /// Pages the guest is asked to give.
    private(set) var targetPages: UInt32 = 0
    /// Pages the guest says it has given.
    private(set) var actualPages: UInt32 = 0
    /// Pages given back to the host since the device was made, by either way.
    private(set) var pagesReleased = 0
    private let chain = DescriptorChain()

    var configuration: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: targetPages)
        bytes.append(littleEndian: actualPages)
        bytes.append(littleEndian: UInt32(0))  // free page hints: not offered
        bytes.append(littleEndian: UInt32(0))  // poison: not offered
        return bytes
    }

    /// Asks the guest to give (or take back) pages until it has given `pages`.
    func setTarget(pages: UInt32, _ link: DeviceLink) {
        targetPages = pages
        link.host?.changeConfiguration(configuration, tellingDriver: true)
    }

    func configurationWritten(offset: Int, size: Int, value: UInt64, _ link: DeviceLink) {
        guard offset == 4, size == 4 else { return }
        actualPages = UInt32(truncatingIfNeeded: value)
        link.host?.changeConfiguration(configuration, tellingDriver: false)
    }

    func notified(queue: Int, _ link: DeviceLink) throws(VirtioError) {
        guard let requests = link.queue(queue) else { return }
        try link.serve(requests, with: chain) { chain throws(VirtioError) in
            switch queue {
            case Self.inflateQueue: try inflate(chain, link)
            case Self.reportingQueue: report(chain, link)
            default: break  // Deflated pages come back by being touched.
            }
            return 0
        }
    }

    /// Releases the pages of a list of page numbers, neighbours together.
    private func inflate(_ chain: DescriptorChain, _ link: DeviceLink) throws(VirtioError) {
        let memory = link.memory
        guard chain.readableCount % 4 == 0, chain.readableCount / 4 <= Self.pagesPerRequestMax else {
            throw .badRequest(queue: Self.inflateQueue, what: "a list of \(chain.readableCount) bytes of page numbers")
        }
        link.turn.spend(chain.readableCount / 4 * pageBytes)
        var run: (first: UInt64, count: UInt64) = (0, 0)
        for offset in stride(from: 0, to: chain.readableCount, by: 4) {
            guard let number = chain.load(at: offset, as: UInt32.self) else { break }
            let page = UInt64(number)
            if run.count > 0, page == run.first + run.count {
                run.count += 1
            } else if run.count > 0, page + 1 == run.first {
                run = (page, run.count + 1)
            } else {
                try release(run.first, run.count, memory)
                run = (page, 1)
            }
        }
        try release(run.first, run.count, memory)
    }

    private func release(_ first: UInt64, _ count: UInt64, _ memory: GuestMemory) throws(VirtioError) {
        guard count > 0 else { return }
        let address = GuestAddress(first * UInt64(pageBytes))
        guard let window = try? memory.place(address, Int(count) * pageBytes) else {
            throw .badAddress(queue: Self.inflateQueue, what: "a ballooned page", address: address, count: Int(count) * pageBytes)
        }
        release(window, memory)
    }

    /// Releases what the guest reports as free; parts that are not whole pages are kept.
    private func report(_ chain: DescriptorChain, _ link: DeviceLink) {
        var left = BalloonDevice.reportBytesMax
        for window in chain.writable where window.count <= left {
            release(window, link.memory)
            left -= window.count
            link.turn.spend(window.count / BalloonDevice.bytesOfReportCost)
        }
    }

    private func release(_ window: GuestWindow, _ memory: GuestMemory) {
        let start = (UInt(bitPattern: window.base) + UInt(pageBytes) - 1) / UInt(pageBytes) * UInt(pageBytes)
        let skipped = Int(start - UInt(bitPattern: window.base))
        guard window.count >= skipped + pageBytes else { return }
        let count = (window.count - skipped) / pageBytes * pageBytes
        pagesReleased += memory.release(region: window.region, offset: window.offset + skipped, count: count)
    }

    // MARK: - State

    /// The target is the host's wish and stays.
    func reset(_ link: DeviceLink) { actualPages = 0 }

    func save() -> State { State(targetPages: targetPages, actualPages: actualPages) }

    func load(_ state: State) throws(DeviceStateError) {
        targetPages = state.targetPages
        actualPages = state.actualPages
    }

    static func wrap(_ state: TransportState<State>) -> VirtioDeviceState { .balloon(state) }
    static func unwrap(_ state: VirtioDeviceState) -> TransportState<State>? {
        if case .balloon(let state) = state { state } else { nil }
    }
}
