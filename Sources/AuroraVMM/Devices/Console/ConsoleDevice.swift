/// A virtio console with one port (virtio 1.2, section 5.3): what the guest prints goes to a `ConsoleLog`, and bytes
/// can be typed into it.
final class ConsoleDevice: VirtioDevice {
    typealias State = EmptyDeviceState

    /// Typed bytes that wait for the guest to make room; more are refused.
    static let inputBytesMax = 64 * 1024
    /// What one request may print; Linux writes a page at a time.
    static let outputBytesMax = 64 * 1024
    /// A line longer than this is printed in pieces.
    private static let outputChunk = 4096

    private static let receive = 0
    private static let transmit = 1

    let type = VirtioDeviceType.console
    let features: UInt64 = 0
    let queueSizeMaxima: [UInt16] = [64, 256]
    let configuration = [UInt8](repeating: 0, count: 12)

    private let log: ConsoleLog
    private let chain = DescriptorChain()
    private var input: [UInt8] = []
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ConsoleDevice.outputChunk, alignment: 8)

    init(log: ConsoleLog) { self.log = log }

    deinit { buffer.deallocate() }

    func notified(queue: Int, _ link: DeviceLink) throws(VirtioError) {
        if queue == Self.receive { return try pumpInput(link) }
        guard queue == Self.transmit, let transmit = link.queue(queue) else { return }
        try link.serve(transmit, with: chain) { chain throws(VirtioError) in
            guard chain.readableCount <= Self.outputBytesMax else {
                throw .badRequest(queue: queue, what: "\(chain.readableCount) bytes to print at once")
            }
            link.turn.spend(chain.readableCount)
            print(chain)
            return 0
        }
    }

    /// The guest's bytes are copied out first: it may change them while they are looked at.
    private func print(_ chain: DescriptorChain) {
        var done = 0
        while done < chain.readableCount {
            let count = chain.read(at: done, into: buffer)
            log.append(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            done += count
        }
    }

    /// Types bytes into the console; false, with nothing taken, when too many wait already.
    func type(_ bytes: [UInt8], _ link: DeviceLink) throws(VirtioError) -> Bool {
        guard bytes.count <= Self.inputBytesMax - input.count else { return false }
        input.append(contentsOf: bytes)
        try pumpInput(link)
        return true
    }

    private func pumpInput(_ link: DeviceLink) throws(VirtioError) {
        guard !input.isEmpty, let receive = link.queue(Self.receive) else { return }
        repeat {
            link.turn.spend(DeviceTurn.requestCost)
            while !input.isEmpty, !link.turn.isOver, try receive.pop(into: chain) {
                let count = input.withUnsafeBytes { chain.write(at: 0, $0) }
                receive.complete(head: chain.head, written: count)
                input.removeFirst(count)
            }
            link.publish(receive)
        } while !input.isEmpty && receive.enableNotifications() && !link.turn.isOver
        // A guest that changes its index all the time must not keep this loop going.
        if !input.isEmpty, link.turn.isOver { link.host?.serveAgain(queue: Self.receive) }
    }

    func reset(_ link: DeviceLink) { input = [] }

    func save() -> State { State() }
    func load(_ state: State) throws(DeviceStateError) {}
    static func wrap(_ state: TransportState<State>) -> VirtioDeviceState { .console(state) }
    static func unwrap(_ state: VirtioDeviceState) -> TransportState<State>? {
        if case .console(let state) = state { state } else { nil }
    }
}
