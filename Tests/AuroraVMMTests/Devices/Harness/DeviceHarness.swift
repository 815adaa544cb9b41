import Linux
import Synchronization

@testable import AuroraVMM

/// No interrupt at all.
private struct SilentLine: InterruptLine {
    func trigger() {}
}

/// Counts what a console prints.
private final class PrintedBytes: Sendable {
    let count = Atomic(0)
}

/// Lets bytes drive a device as the worst of guests would: registers, rings, descriptors, doorbells, saved states and
/// events of the host, in any order.
///
/// Shared by the fuzzer and by the tests, which feed it random bytes.
final class DeviceHarness {
    enum Kind: CaseIterable { case block, readOnlyBlock, network, vsock, console, entropy, balloon }

    private static let memoryBytes = 1 << 20
    private static let ringStride: UInt64 = 0x4000
    private static let arena: UInt64 = 0x4_0000
    private static let queueSize: UInt16 = 8
    /// What a device may do in one call: a turn, and the largest request that may end it.
    private static let workMax = DeviceTurn.bytesMax + BalloonDevice.pagesPerRequestMax * pageBytes
    private static let emptyRing = [UInt8](repeating: 0, count: Int(ringStride))

    private let memory: GuestMemory
    private let window: any MMIOWindow
    private let frames: SocketFrames
    /// What the device says that its last call has cost.
    private let spent: () -> Int
    /// Bytes that it has printed, or moved to and from its disk, since it was made.
    private let moved: () -> Int
    private var input: ArraySlice<UInt8> = []
    /// Available indexes as the driver counts them.
    private var offered: [UInt16]

    init(_ kind: Kind) throws(SystemError) {
        memory = GuestMemory(regions: [.init(start: GuestAddress(0), mapping: try .anonymous(count: Self.memoryBytes, what: "harness"))])
        frames = try SocketFrames()
        var moved: () -> Int = { 0 }
        switch kind {
        case .block, .readOnlyBlock:
            let disk = MemoryBackend(byteCount: 2 << 20, isReadOnly: kind == .readOnlyBlock)
            moved = { disk.moved }
            (window, spent) = try Self.make(BlockDevice(backend: disk, serial: "fuzz"), memory)
        case .network: (window, spent) = try Self.make(NetworkDevice(frames: frames, macAddress: [2, 0, 0, 0, 0, 1]), memory)
        case .vsock: (window, spent) = try Self.make(VsockDevice(guestContext: 3, path: nil), memory)
        case .console:
            let printed = PrintedBytes()
            moved = { printed.count.load(ordering: .relaxed) }
            (window, spent) = try Self.make(ConsoleDevice(log: ConsoleLog { printed.count.add($0.count, ordering: .relaxed) }), memory)
        case .entropy: (window, spent) = try Self.make(EntropyDevice(), memory)
        case .balloon: (window, spent) = try Self.make(BalloonDevice(), memory)
        }
        self.moved = moved
        offered = window.queueNotifiers.map { _ in 0 }
    }

    private static func make<Device: VirtioDevice>(
        _ device: Device, _ memory: GuestMemory
    ) throws(SystemError) -> (any MMIOWindow, () -> Int) {
        let transport = try MMIOTransport(device, memory: memory, interrupt: SilentLine(), page: RegisterPage())
        return (transport, { transport.withDevice { _, link in link.turn.spent } })
    }

    /// Carries out what the bytes say.
    ///
    /// - Returns: what the device did wrong; nil if nothing.
    func run(_ bytes: [UInt8]) -> String? {
        input = bytes[...]
        if (take() as UInt8) & 3 != 0 { start() }
        while !input.isEmpty {
            if let problem = step() { return problem }
        }
        return checkRecovery()
    }

    // MARK: - Input

    /// The next number of the input; zero when it is used up.
    private func take<Value: FixedWidthInteger>() -> Value {
        var value: Value = 0
        for shift in 0..<MemoryLayout<Value>.size {
            guard let byte = input.popFirst() else { break }
            value |= Value(truncatingIfNeeded: UInt64(byte) << UInt64(8 * shift))
        }
        return value
    }

    private func takeQueue() -> Int { Int(take() as UInt8) % window.queueNotifiers.count }

    // MARK: - Steps

    private func step() -> String? {
        let what: UInt8 = take()
        switch what % 16 {
        case 0: write(Int(take() as UInt8) & 0xfc, take())
        case 1: window.write(offset: 0x100 + Int(take() as UInt8), size: 1 << Int((take() as UInt8) & 3), value: take())
        case 2: poke(ring(takeQueue()) + UInt64((take() as UInt16) % UInt16(Self.ringStride)), take() as UInt64)
        case 3: poke(UInt64(take() as UInt32) % UInt64(Self.memoryBytes), take() as UInt32)
        case 4...8: offerChain(takeQueue())
        case 9, 10, 11: return serve(takeQueue())
        case 12: return saveAndLoad()
        case 13: hostEvent()
        case 14: return serve(Int(take() as UInt8))
        default: if (take() as UInt8) & 7 == 0 { start() }
        }
        return nil
    }

    /// Serves a queue once, which must not take longer than a turn and the request that ends it, whatever was offered.
    private func serve(_ queue: Int) -> String? {
        let before = moved()
        window.notify(queue: queue)
        let work = max(spent(), moved() - before)
        return work <= Self.workMax ? nil : "one call of queue \(queue) worked for \(work) bytes"
    }

    /// Puts up to four descriptors and their head into a queue; most make sense, some do not.
    private func offerChain(_ queue: Int) {
        let count = 1 + UInt16((take() as UInt8) & 3)
        let first = UInt16((take() as UInt8) & 7)
        for index in 0..<count {
            let shape: UInt8 = take()
            let number = (first + index) % Self.queueSize
            let place = ring(queue) + 16 * UInt64(number)
            var address = Self.arena + UInt64(take() as UInt16) * 8
            var length = UInt32((take() as UInt16) & 0x1fff)
            if shape & 0xf0 == 0xf0 {
                address = take()
                length = take()
            }
            if shape & 0xf0 == 0xe0 { (address, length) = (0, UInt32(Self.memoryBytes)) }
            poke(place, address)
            poke(place + 8, length)
            let isLast = index + 1 == count && shape & 0x08 == 0
            poke(place + 12, UInt16(shape & 6) | (isLast ? 0 : 1))
            poke(place + 14, shape & 0x10 == 0 ? (number + 1) % Self.queueSize : UInt16(shape))
            // A header for devices that want one: small numbers are likely codes.
            if shape & 0x20 != 0 { poke(address, UInt64((take() as UInt8) & 15)) }
        }
        let ring = ring(queue) + 0x1000
        poke(ring + 4 + 2 * UInt64(offered[queue] % Self.queueSize), first)
        offered[queue] &+= 1
        poke(ring + 2, offered[queue])
    }

    /// What a device says about itself it must also believe.
    private func saveAndLoad() -> String? {
        let state = window.save()
        do throws(DeviceStateError) { try window.load(state) } catch { return "its own state is refused: \(error)" }
        window.kick()
        return nil
    }

    private func hostEvent() {
        let bytes = [UInt8](repeating: 7, count: Int(take() as UInt16) & 0xfff)
        if let console = window as? MMIOTransport<ConsoleDevice> {
            console.withDevice { device, link in console.attempt { () throws(VirtioError) in _ = try device.type(bytes, link) } }
        } else if let vsock = window as? MMIOTransport<VsockDevice> {
            let port: UInt32 = take()
            vsock.withDevice { device, link in
                vsock.attempt { () throws(VirtioError) in
                    if let socket = try? device.connect(to: port, link, { _ in }) { _ = OwnedDescriptor(adopting: socket) }
                    try device.pump(link)
                }
            }
        } else if let balloon = window as? MMIOTransport<BalloonDevice> {
            balloon.withDevice { device, link in device.setTarget(pages: 3, link) }
        } else {
            _ = frames.send(bytes)
        }
    }

    // MARK: - Driver

    private func ring(_ queue: Int) -> UInt64 { Self.ringStride * UInt64(queue + 1) }

    private func write(_ offset: Int, _ value: UInt32) { window.write(offset: offset, size: 4, value: UInt64(value)) }

    /// Where the bytes lead outside memory nothing happens, as on a bus.
    private func poke<Value: FixedWidthInteger>(_ address: UInt64, _ value: Value) { try? memory.store(value, at: GuestAddress(address)) }

    /// A reset, and a decent start.
    private func start() {
        write(MMIORegister.status, 0)
        for status in [1, 3] { write(MMIORegister.status, UInt32(status)) }
        write(MMIORegister.deviceFeaturesSelect, 0)
        let low = window.read(offset: MMIORegister.deviceFeatures, size: 4)
        for (select, value) in [(0, low), (1, 1)] {
            write(MMIORegister.driverFeaturesSelect, UInt32(select))
            write(MMIORegister.driverFeatures, UInt32(truncatingIfNeeded: value))
        }
        write(MMIORegister.status, 11)
        for queue in offered.indices {
            write(MMIORegister.queueSelect, UInt32(queue))
            write(MMIORegister.queueSize, UInt32(Self.queueSize))
            for (register, offset) in [
                (MMIORegister.descriptorTableLow, 0), (MMIORegister.driverRingLow, 0x1000), (MMIORegister.deviceRingLow, 0x2000),
            ] {
                write(register, UInt32(truncatingIfNeeded: ring(queue)) + UInt32(offset))
                write(register + 4, 0)
            }
            try? memory.write(GuestAddress(ring(queue)), Self.emptyRing)
            offered[queue] = 0
            write(MMIORegister.queueReady, 1)
        }
        write(MMIORegister.status, 15)
    }

    /// Whatever a driver did, a reset and a new start must bring the device back.
    private func checkRecovery() -> String? {
        guard window.read(offset: MMIORegister.magic, size: 4) == UInt64(MMIORegister.magicValue) else {
            return "the magic number has changed"
        }
        start()
        let status = window.read(offset: MMIORegister.status, size: 4)
        guard status == 15 else { return "after a reset the status is \(status) instead of 15" }
        for queue in offered.indices {
            poke(ring(queue), Self.arena)
            poke(ring(queue) + 8, UInt64(64) | 2 << 32)
            offered[queue] &+= 1
            poke(ring(queue) + 0x1000 + 2, offered[queue])
            window.notify(queue: queue)
        }
        return nil
    }
}
