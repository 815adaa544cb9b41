internal import CLinux

/// A source of random bytes (virtio 1.2, section 5.4), straight from the host's getrandom(2).
final class EntropyDevice: VirtioDevice {
    typealias State = EmptyDeviceState

    /// The most a single request gets; a guest that wants more asks again.
    static let requestBytesMax = 64 * 1024
    /// getrandom(2) never gives less than asked for up to this length.
    private static let chunk = 256
    /// How many bytes could be copied in the time that one takes here.
    private static let byteCost = 8

    let type = VirtioDeviceType.entropy
    let features: UInt64 = 0
    let queueSizeMaxima: [UInt16] = [64]
    let configuration: [UInt8] = []
    private let chain = DescriptorChain()

    func notified(queue: Int, _ link: DeviceLink) throws(VirtioError) {
        guard let requests = link.queue(queue) else { return }
        try link.serve(requests, with: chain) { chain throws(VirtioError) in
            let count = try Self.fill(chain)
            link.turn.spend(count * Self.byteCost)
            return count
        }
    }

    private static func fill(_ chain: DescriptorChain) throws(VirtioError) -> Int {
        var bytes = InlineArray<256, UInt8>(repeating: 0)
        let wanted = min(chain.writableCount, requestBytesMax)
        var done = 0
        while done < wanted {
            let count = min(chunk, wanted - done)
            let failed = withUnsafeMutableBytes(of: &bytes) { buffer in
                if clinux_getrandom(buffer.baseAddress, count) != count { return true }
                chain.write(at: done, UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                return false
            }
            if failed { throw .host("getrandom(2) gave fewer bytes than asked for") }
            done += count
        }
        return done
    }

    func reset(_ link: DeviceLink) {}
    func save() -> State { State() }
    func load(_ state: State) throws(DeviceStateError) {}
    static func wrap(_ state: TransportState<State>) -> VirtioDeviceState { .entropy(state) }
    static func unwrap(_ state: VirtioDeviceState) -> TransportState<State>? {
        if case .entropy(let state) = state { state } else { nil }
    }
}
