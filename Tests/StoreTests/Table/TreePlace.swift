import StoreSimulation

@testable import Store

/// A disk on which trees are put one thing after the other.
final class TreePlace {
    let disk = SimulatedDisk(byteCount: 256 << 20)
    private var top: UInt64 = 4096
    var source: NodeSource { NodeSource(disk: disk, nodesMax: 64) }

    func put(_ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PageLocation {
        guard let location = PageLocation(offset: top, length: bytes.count) else {
            throw .invalid(what: "place", reason: "\(top)")
        }
        do throws(DiskError) { try disk.write([bytes], at: top) } catch { throw .disk(error) }
        top += UInt64((bytes.count + 63) / 64 * 64)
        return location
    }

    func tree(_ entries: [TreeEntry], level: Int = 0) throws -> Tree {
        var builder = TreeBuilder(place: put)
        for entry in entries { try builder.add(entry) }
        return Tree(reference: try builder.finish(level: level), source: source)
    }

    static func entry(_ key: UInt64, _ value: UInt64) -> TreeEntry {
        TreeEntry(
            key: key, location: value == 0 ? .zero : PageLocation(offset: value * 4096, length: 4096) ?? .zero,
            checksum: Checksum(low: value, high: 0))
    }
}
