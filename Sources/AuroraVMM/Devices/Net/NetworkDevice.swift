internal import CLinux
import Linux

/// A network card over a TAP interface (virtio 1.2, section 5.1), with checksum and segmentation offload both ways and
/// mergeable receive buffers.
final class NetworkDevice: VirtioDevice {
    typealias State = NetworkState

    static let headerBytes = Int(TapInterface.headerBytes)
    /// The largest unsegmented frame and its header (virtio 1.2, section 5.1.6.3.1).
    static let frameBytesMax = 65550 + headerBytes
    /// Frames carried before others have their turn.
    private static let burst = 64

    static let receiveQueue = 0
    static let transmitQueue = 1

    let type = VirtioDeviceType.network
    let queueSizeMaxima: [UInt16] = [256, 256]
    let features: UInt64
    let configuration: [UInt8]
    private(set) var counters = NetworkCounters()

    private let frames: any FrameLink
    private let macAddress: [UInt8]
    private var isWatching = false
    private let first = DescriptorChain()
    private let further = DescriptorChain()
    private var vectors = IOVectors()
    /// A frame read from the host, header included.
    private let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: NetworkDevice.frameBytesMax, alignment: 16)
    /// Bytes of a frame in `frame` that waits for the guest to offer buffers; zero for none.
    private var waiting = 0
    /// What each buffer of the current frame got.
    private var filled: [(head: UInt16, count: Int)] = []

    /// - Parameters:
    ///   - macAddress: six bytes.
    ///   - mtu: told to the guest; nil leaves it at 1500.
    init(frames: any FrameLink, macAddress: [UInt8], mtu: UInt16? = nil) {
        precondition(macAddress.count == 6, "an Ethernet address has six bytes")
        self.frames = frames
        self.macAddress = macAddress
        features = NetworkFeature.offered | (mtu == nil ? 0 : NetworkFeature.mtu)
        var bytes = macAddress
        bytes.append(littleEndian: UInt16(1))  // status: link up
        bytes.append(littleEndian: UInt16(1))  // queue pairs
        bytes.append(littleEndian: mtu ?? 1500)
        configuration = bytes
    }

    deinit { frame.deallocate() }

    func activate(_ link: DeviceLink) throws(VirtioError) {
        do throws(SystemError) {
            try frames.setOffloads(NetworkFeature.offloads(link.features))
        } catch { throw .host("\(error)") }
    }

    func notified(queue: Int, _ link: DeviceLink) throws(VirtioError) {
        guard let requests = link.queue(queue) else { return }
        if queue == Self.receiveQueue { return try receive(link) }
        try link.serve(requests, with: first) { chain throws(VirtioError) in
            transmit(chain, link.turn)
            return 0
        }
    }

    func ready(_ descriptor: Int32, _ events: EventLoop.Interest, _ link: DeviceLink) throws(VirtioError) { try receive(link) }

    // MARK: - Guest to host

    /// Gives one frame to the host.
    ///
    /// What the host refuses is lost, as on any network.
    private func transmit(_ chain: DescriptorChain, _ turn: DeviceTurn) {
        let count = chain.readableCount
        guard count > Self.headerBytes, count <= Self.frameBytesMax else {
            counters.framesDropped += 1
            return
        }
        turn.spend(count)
        _ = chain.fill(&vectors, writable: false, from: 0, limit: count)
        let descriptor = frames.descriptor
        let result = vectors.withPointer { clinux_writev(descriptor, $0, $1) } ?? 0
        guard result == count else {
            counters.framesDropped += 1
            return
        }
        counters.framesSent += 1
        counters.bytesSent += count - Self.headerBytes
    }

    // MARK: - Host to guest

    /// Carries frames to the guest while there are both frames and buffers.
    private func receive(_ link: DeviceLink) throws(VirtioError) {
        guard let queue = link.queue(Self.receiveQueue) else { return }
        var delivered = 0
        var starved = false
        while delivered < Self.burst, !link.turn.isOver {
            if waiting == 0 { waiting = readFrame() }
            if waiting == 0 { break }
            var isDelivered = try deliver(queue, link)
            if !isDelivered, queue.enableNotificationsOfMore() {
                isDelivered = try deliver(queue, link)
                // Not a loop: a guest that changes its index all the time would never let go.
                if !isDelivered { link.host?.serveAgain(queue: queue.index) }
            }
            guard isDelivered else {
                starved = true
                break
            }
            link.turn.spend(waiting)
            waiting = 0
            delivered += 1
        }
        if delivered > 0 { link.publish(queue) }
        watch(!starved, link)
    }

    /// Without buffers the host is not listened to; the guest's notification brings it back.
    private func watch(_ wanted: Bool, _ link: DeviceLink) {
        guard wanted != isWatching else { return }
        isWatching = wanted
        if !wanted { return link.host?.unwatch(frames.descriptor) ?? () }
        try? link.host?.watch(frames.descriptor, .readable)
    }

    /// Reads the next frame of the host; zero when there is none.
    private func readFrame() -> Int {
        let count = clinux_read(frames.descriptor, frame.baseAddress, frame.count)
        return count > Self.headerBytes ? count : 0
    }

    /// Copies the waiting frame into the guest's buffers; false, with nothing taken, when there are too few.
    private func deliver(_ queue: VirtQueue, _ link: DeviceLink) throws(VirtioError) -> Bool {
        filled.removeAll(keepingCapacity: true)
        let canMerge = link.has(NetworkFeature.mergeableBuffers)
        var done = 0
        while done < waiting {
            let chain = filled.isEmpty ? first : further
            guard try queue.pop(into: chain) else {
                queue.undoPop(filled.count)
                // More buffers than the queue is long can never come: such a frame is lost.
                guard filled.count == Int(queue.size) else { return false }
                counters.framesDropped += 1
                return true
            }
            guard chain.writableCount > Self.headerBytes else {
                throw .badRequest(queue: Self.receiveQueue, what: "a receive buffer is smaller than a header")
            }
            let count = chain.write(at: 0, UnsafeRawBufferPointer(rebasing: frame[done..<waiting]))
            filled.append((chain.head, count))
            done += count
            if !canMerge { break }
        }
        finish(queue, whole: done == waiting)
        return true
    }

    private func finish(_ queue: VirtQueue, whole: Bool) {
        guard whole else {
            // Without mergeable buffers a frame that does not fit is lost; its buffer is kept for the next one.
            queue.undoPop(filled.count)
            counters.framesDropped += 1
            return
        }
        first.store(UInt16(truncatingIfNeeded: filled.count), at: 10)  // num_buffers
        for buffer in filled { queue.complete(head: buffer.head, written: buffer.count) }
        counters.framesReceived += 1
        counters.bytesReceived += waiting - Self.headerBytes
    }

    // MARK: - State

    func reset(_ link: DeviceLink) {
        watch(false, link)
        waiting = 0
    }

    func save() -> State { State(macAddress: macAddress) }

    func load(_ state: State) throws(DeviceStateError) {
        guard state.macAddress == macAddress else {
            throw DeviceStateError(
                device: "network", reason: "its guest knows the address \(state.macAddress), this card has \(macAddress)")
        }
    }

    static func wrap(_ state: TransportState<State>) -> VirtioDeviceState { .network(state) }
    static func unwrap(_ state: VirtioDeviceState) -> TransportState<State>? {
        if case .network(let state) = state { state } else { nil }
    }
}
