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
        for _ in 0..<250 {
            do { try workload.step() } catch {
                Issue.record("seed=\(seed) step=\(workload.steps): \(error)")
                return
            }
        }
        try workload.checkAll()
        #expect(workload.model.streams.count > 1)
    }
}
