import StoreSimulation
import Testing

@testable import Store

@Suite struct WorkloadTests {
    /// All operations in random order, on contiguous and on scattered space, compressed and not.
    @Test(arguments: [(1, 1024, .off), (2, 3, .off), (3, 1024, .on), (4, 7, .on)] as [(UInt64, Int, CompressionPolicy)])
    func behavesLikeItsModel(seed: UInt64, extentBlocks: Int, compression: CompressionPolicy) throws {
        let disk = SimulatedDisk(byteCount: 1 << 30)
        disk.restartTrace(recording: false)
        var options = WriterOptions()
        options.compression = compression
        let workload = Workload(
            store: Store(ground: BumpGround(disk: disk, extentBlocks: extentBlocks)), seed: seed, options: options)
        for _ in 0..<200 {
            do { try workload.step() } catch {
                Issue.record("seed=\(seed) step=\(workload.steps): \(error)")
                return
            }
        }
        try workload.checkAll()
        #expect(workload.model.streams.count > 1)
    }

    /// The same on the real ground, in a small store that is collected while everything goes on: what is freed is used again.
    @Test(arguments: [11, 12, 13] as [UInt64])
    func behavesLikeItsModelWhileItIsCollected(seed: UInt64) throws {
        let disk = SimulatedDisk(byteCount: 256 << 20)
        disk.restartTrace(recording: false)
        try Store.create(on: disk, StoreConfiguration(slotCount: 32, identity: StoreIdentity(low: 1, high: 2)))
        let store = try Store.open(disk, memory: .alone, indexBytes: 1 << 18)
        let workload = Workload(store: store, seed: seed)
        for _ in 0..<200 {
            do {
                try workload.step()
                if workload.steps % 25 == 0 { _ = try store.collect() }
            } catch {
                Issue.record("seed=\(seed) step=\(workload.steps): \(error)")
                return
            }
        }
        _ = try store.collect()
        try workload.checkAll()
    }
}
