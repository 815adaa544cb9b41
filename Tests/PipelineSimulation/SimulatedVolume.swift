@testable import AuroraVMM
@testable import Snapshot

/// A disk of stamps, whose frozen contents wait until they are read out.
///
/// `@unchecked Sendable`: a simulation has one thread.
final class SimulatedVolume: EpochParticipant, @unchecked Sendable {
    static let blocks = 48
    let map = 1

    private struct Unreadable: Error, CustomStringConvertible { let description = "it cannot be read" }

    private struct Frozen {
        let epoch: EpochNumber
        let blocks: [(number: Int, stamp: UInt64)]
    }

    private(set) var stamps = [UInt64](repeating: 0, count: SimulatedVolume.blocks)
    private var changed: Set<Int> = []
    private var frozen: [Frozen] = []
    var fails = false
    var meanwhile: () -> Void = {}
    var complain: (String) -> Void = { _ in }

    func write(block: Int, stamp: UInt64) {
        stamps[block] = stamp
        changed.insert(block)
    }

    func freeze(_ epoch: EpochNumber) {
        frozen.append(Frozen(epoch: epoch, blocks: changed.sorted().map { ($0, stamps[$0]) }))
        changed = []
    }

    func collect(_ epoch: EpochNumber, from position: Int, pagesMax: Int, into sink: any PageSink) throws -> Int? {
        meanwhile()
        if fails { throw Unreadable() }
        guard let first = frozen.first, first.epoch == epoch else {
            complain("epoch \(epoch) of the volume is to be read, but epoch \(frozen.first?.epoch.description ?? "none") is next")
            return nil
        }
        if pagesMax < 1 { complain("the volume is asked for \(pagesMax) pages") }
        let end = position + min(pagesMax, first.blocks.count - position)
        for block in first.blocks[position..<end] { try sink.add(page: block.number) { SimulatedVolume.fill($0, block.stamp) } }
        if end < first.blocks.count { return end }
        frozen.removeFirst()
        return nil
    }

    func stream(from position: Int, pagesMax: Int, into sink: any PageSink) throws -> Int? {
        let end = min(SimulatedVolume.blocks, position + min(pagesMax, 10))
        for block in position..<end where stamps[block] != 0 { try sink.add(page: block) { SimulatedVolume.fill($0, stamps[block]) } }
        return end < SimulatedVolume.blocks ? end : nil
    }

    private static func fill(_ buffer: UnsafeMutableRawBufferPointer, _ stamp: UInt64) {
        for offset in SimulatedMachine.offsets { buffer.storeBytes(of: stamp, toByteOffset: offset, as: UInt64.self) }
    }
}
