import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// Counts interrupts instead of raising them.
final class CountingLine: InterruptLine {
    private let count = Atomic<Int>(0)
    func trigger() { count.add(1, ordering: .sequentiallyConsistent) }
    var value: Int { count.load(ordering: .sequentiallyConsistent) }
}

/// One buffer of a request.
enum Part {
    case readable([UInt8])
    case writable(Int)
    /// A descriptor exactly as given, however wild.
    case raw(address: UInt64, count: UInt32, flags: UInt16)
}

/// The driver's side of a virtio device, laid out by hand in a small guest memory: what the tests of all devices share.
///
/// Queue rings lie at fixed places, buffers are taken from an arena behind them.
final class GuestDriver {
    static let memoryBytes = 8 << 20
    static let ringStride: UInt64 = 0x8000
    static let arenaStart: UInt64 = 0x10_0000

    let memory: GuestMemory
    let window: any MMIOWindow
    let line: CountingLine
    private(set) var features: UInt64 = 0
    private var queues: [DriverQueue] = []
    private var arena = GuestDriver.arenaStart

    struct DriverQueue {
        let size: UInt16
        let base: UInt64
        var nextDescriptor: UInt16 = 0
        var offered: UInt16 = 0
        var seen: UInt16 = 0
        /// Writable buffers by head, so that results can be read.
        var writable: [UInt16: [(address: UInt64, count: Int)]] = [:]

        var descriptors: UInt64 { base }
        var available: UInt64 { base &+ 0x2000 }
        var used: UInt64 { base &+ 0x4000 }
    }

    static func makeMemory() throws -> GuestMemory {
        GuestMemory(regions: [.init(start: GuestAddress(0), mapping: try .anonymous(count: memoryBytes, what: "test memory"))])
    }

    init<Device: VirtioDevice>(_ device: Device, memory: GuestMemory? = nil) throws {
        self.memory = try memory ?? Self.makeMemory()
        line = CountingLine()
        window = try MMIOTransport(device, memory: self.memory, interrupt: line, page: RegisterPage())
    }

    // MARK: - Registers

    func write(_ register: Int, _ value: UInt32) { window.write(offset: register, size: 4, value: UInt64(value)) }
    func read(_ register: Int) -> UInt32 { UInt32(truncatingIfNeeded: window.read(offset: register, size: 4)) }
    var status: UInt32 { read(MMIORegister.status) }
    var needsReset: Bool { status & VirtioStatus.needsReset.rawValue != 0 }

    var offeredFeatures: UInt64 {
        write(MMIORegister.deviceFeaturesSelect, 0)
        let low = UInt64(read(MMIORegister.deviceFeatures))
        write(MMIORegister.deviceFeaturesSelect, 1)
        return low | UInt64(read(MMIORegister.deviceFeatures)) << 32
    }

    /// The steps of virtio 1.2, section 3.1.1, up to FEATURES_OK.
    func negotiate(_ wanted: UInt64? = nil, without: UInt64 = 0) {
        write(MMIORegister.status, 1)
        write(MMIORegister.status, 3)
        features = (wanted ?? offeredFeatures) & ~without
        for word in 0..<2 {
            write(MMIORegister.driverFeaturesSelect, UInt32(word))
            write(MMIORegister.driverFeatures, UInt32(truncatingIfNeeded: features >> (32 * UInt64(word))))
        }
        write(MMIORegister.status, 11)
    }

    func setUpQueue(_ index: Int, size: UInt16, base: UInt64, rawSize: UInt32? = nil) {
        write(MMIORegister.queueSelect, UInt32(index))
        write(MMIORegister.queueSize, rawSize ?? UInt32(size))
        let queue = DriverQueue(size: size, base: base)
        for (register, address) in [
            (MMIORegister.descriptorTableLow, queue.descriptors), (MMIORegister.driverRingLow, queue.available),
            (MMIORegister.deviceRingLow, queue.used),
        ] {
            write(register, UInt32(truncatingIfNeeded: address))
            write(register + 4, UInt32(truncatingIfNeeded: address >> 32))
        }
        write(MMIORegister.queueReady, 1)
    }

    /// Brings the device up with all queues at `size` (or their maximum if smaller).
    func start(size: UInt16 = 64, without: UInt64 = 0) {
        negotiate(without: without)
        queues = []
        for index in window.queueNotifiers.indices {
            write(MMIORegister.queueSelect, UInt32(index))
            let chosen = min(size, UInt16(truncatingIfNeeded: read(MMIORegister.queueSizeMax)))
            let base = GuestDriver.ringStride * UInt64(index + 1)
            clearRing(at: base)
            setUpQueue(index, size: chosen, base: base)
            queues.append(DriverQueue(size: chosen, base: base))
        }
        write(MMIORegister.status, 15)
    }

    /// Goes on with the rings of another driver of the same memory, as a restored guest does.
    func adoptQueues(of other: GuestDriver) {
        queues = other.queues
        features = other.features
        arena = other.arena
    }

    private func clearRing(at base: UInt64) {
        let zeros = [UInt8](repeating: 0, count: Int(Self.ringStride))
        do { try memory.write(GuestAddress(base), zeros) } catch { Issue.record("\(error)") }
    }

    // MARK: - Guest memory

    func poke<Value: FixedWidthInteger>(_ address: UInt64, _ value: Value) {
        do { try memory.store(value, at: GuestAddress(address)) } catch { Issue.record("poke \(error)") }
    }

    func peek<Value: FixedWidthInteger>(_ address: UInt64, as type: Value.Type = Value.self) -> Value {
        do { return try memory.load(GuestAddress(address)) } catch {
            Issue.record("peek \(error)")
            return 0
        }
    }

    func bytes(_ address: UInt64, _ count: Int) -> [UInt8] { (try? memory.bytes(GuestAddress(address), count: count)) ?? [] }

    /// Takes room from the arena, starting over when it is used up.
    func allocate(_ count: Int) -> UInt64 {
        let rounded = UInt64((count + 15) / 16 * 16)
        if arena + rounded > UInt64(Self.memoryBytes) { arena = Self.arenaStart }
        defer { arena += rounded }
        return arena
    }

    // MARK: - Queues

    func queue(_ index: Int) -> DriverQueue { queues[index] }

    func writeDescriptor(_ queue: Int, _ number: UInt16, address: UInt64, count: UInt32, flags: UInt16, next: UInt16) {
        let place = queues[queue].descriptors + 16 * UInt64(number)
        writeDescriptor(at: place, address: address, count: count, flags: flags, next: next)
    }

    func writeDescriptor(at place: UInt64, address: UInt64, count: UInt32, flags: UInt16, next: UInt16) {
        poke(place, address)
        poke(place + 8, count)
        poke(place + 12, flags)
        poke(place + 14, next)
    }

    /// Puts one request into a queue without telling the device; answers its head.
    @discardableResult
    func offer(_ index: Int, _ parts: [Part], indirect: Bool = false) -> UInt16 {
        let size = queues[index].size
        var writable: [(UInt64, Int)] = []
        let table = indirect ? allocate(16 * parts.count) : 0
        let head = queues[index].nextDescriptor % size
        for (position, part) in parts.enumerated() {
            var (address, count, flags) = (UInt64(0), UInt32(0), UInt16(0))
            switch part {
            case .readable(let bytes):
                address = allocate(bytes.count)
                count = UInt32(bytes.count)
                do { try memory.write(GuestAddress(address), bytes) } catch { Issue.record("\(error)") }
            case .writable(let length):
                address = allocate(length)
                count = UInt32(length)
                flags = 2
                writable.append((address, length))
            case .raw(let rawAddress, let rawCount, let rawFlags): (address, count, flags) = (rawAddress, rawCount, rawFlags)
            }
            if position + 1 < parts.count { flags |= 1 }
            if indirect {
                writeDescriptor(
                    at: table + 16 * UInt64(position), address: address, count: count, flags: flags, next: UInt16(position + 1))
            } else {
                let number = queues[index].nextDescriptor % size
                queues[index].nextDescriptor &+= 1
                writeDescriptor(index, number, address: address, count: count, flags: flags, next: (number + 1) % size)
            }
        }
        if indirect {
            queues[index].nextDescriptor &+= 1
            writeDescriptor(index, head, address: table, count: UInt32(16 * parts.count), flags: 4, next: 0)
        }
        offerHead(index, head)
        queues[index].writable[head] = writable.map { (address: $0.0, count: $0.1) }
        return head
    }

    /// Puts a descriptor number into the available ring, whatever it is.
    func offerHead(_ index: Int, _ head: UInt16) {
        let queue = queues[index]
        poke(queue.available + 4 + 2 * UInt64(queue.offered % queue.size), head)
        queues[index].offered &+= 1
        poke(queue.available + 2, queues[index].offered)
    }

    /// Serves a queue on this thread, as the loop would.
    func notify(_ index: Int) { window.notify(queue: index) }

    /// The next completed request: its head, the length the device tells, and the bytes of its writable parts.
    func takeUsed(_ index: Int) -> (head: UInt16, length: Int, bytes: [UInt8])? {
        let queue = queues[index]
        guard peek(queue.used + 2, as: UInt16.self) != queue.seen else { return nil }
        let entry = queue.used + 4 + 8 * UInt64(queue.seen % queue.size)
        queues[index].seen &+= 1
        let head = UInt16(truncatingIfNeeded: peek(entry, as: UInt32.self))
        let written = (queue.writable[head] ?? []).flatMap { bytes($0.address, $0.count) }
        return (head, Int(peek(entry + 4, as: UInt32.self)), written)
    }

    /// Offers a request, has it served, and takes its answer.
    func request(_ index: Int, _ parts: [Part], indirect: Bool = false) -> (length: Int, bytes: [UInt8])? {
        let head = offer(index, parts, indirect: indirect)
        notify(index)
        guard let used = takeUsed(index) else { return nil }
        #expect(used.head == head)
        return (used.length, used.bytes)
    }

    /// Sets the driver's wish for the next interrupt (with event indexes).
    func wantInterrupt(_ index: Int, at usedIndex: UInt16) {
        let queue = queues[index]
        poke(queue.available + 4 + 2 * UInt64(queue.size), usedIndex)
    }
}
