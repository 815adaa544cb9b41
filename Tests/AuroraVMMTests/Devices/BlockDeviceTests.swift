import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// A directory that goes away with its owner.
final class TemporaryDirectory {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "aurora-test-\(UUID().uuidString)"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String, bytes: [UInt8]) -> String {
        let file = path + "/" + name
        _ = FileManager.default.createFile(atPath: file, contents: Data(bytes))
        return file
    }
}

/// What block tests say to a disk.
extension GuestDriver {
    func blockHeader(_ kind: UInt32, _ sector: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: kind)
        bytes.append(littleEndian: UInt32(0))
        bytes.append(littleEndian: sector)
        return bytes
    }

    func readSectors(_ sector: UInt64, count: Int, indirect: Bool = false) -> (status: UInt8?, bytes: [UInt8]) {
        let answer = request(0, [.readable(blockHeader(0, sector)), .writable(count), .writable(1)], indirect: indirect)
        return (answer?.bytes.last, Array(answer?.bytes.dropLast() ?? []))
    }

    func writeSectors(_ sector: UInt64, _ bytes: [UInt8], indirect: Bool = false) -> UInt8? {
        request(0, [.readable(blockHeader(1, sector)), .readable(bytes), .writable(1)], indirect: indirect)?.bytes.last
    }

    func flushDisk() -> UInt8? { request(0, [.readable(blockHeader(4, 0)), .writable(1)])?.bytes.last }

    func zeroSectors(_ kind: UInt32, _ sector: UInt64, _ sectors: UInt32, flags: UInt32 = 0) -> UInt8? {
        var segment: [UInt8] = []
        segment.append(littleEndian: sector)
        segment.append(littleEndian: sectors)
        segment.append(littleEndian: flags)
        return request(0, [.readable(blockHeader(kind, 0)), .readable(segment), .writable(1)])?.bytes.last
    }
}

@Suite struct BlockDeviceTests {
    private let directory = TemporaryDirectory()

    private func disk(_ bytes: [UInt8], isReadOnly: Bool = false) throws -> (driver: GuestDriver, path: String) {
        let path = directory.file("disk", bytes: bytes)
        let driver = try GuestDriver(BlockDevice(backend: try RawFileBackend(path: path, isReadOnly: isReadOnly), serial: "serial-1"))
        driver.start()
        return (driver, path)
    }

    @Test func theCapacityIsInTheConfigurationSpace() throws {
        let (driver, _) = try disk([UInt8](repeating: 0, count: 1 << 20))
        #expect(driver.window.read(offset: MMIORegister.configuration, size: 8) == 2048)
    }

    @Test(arguments: [false, true])
    func whatIsWrittenIsReadBack(indirect: Bool) throws {
        let (driver, path) = try disk([UInt8](repeating: 0, count: 1 << 20))
        let bytes = (0..<8192).map { UInt8(truncatingIfNeeded: $0 * 7) }
        #expect(driver.writeSectors(16, bytes, indirect: indirect) == 0)
        #expect(driver.flushDisk() == 0)
        let (status, found) = driver.readSectors(16, count: 8192, indirect: indirect)
        #expect(status == 0)
        #expect(found == bytes)
        let file = try Data(contentsOf: URL(fileURLWithPath: path))
        #expect(Array(file[8192..<16384]) == bytes)
        #expect(!driver.needsReset)
    }

    @Test(arguments: [
        (UInt64(2048), 512), (2047, 1024), (UInt64.max, 512), (UInt64.max / 512, 512), (1 << 63, 512), (0, 511),
    ])
    func requestsBeyondTheDiskFailAlone(sector: UInt64, count: Int) throws {
        let (driver, _) = try disk([UInt8](repeating: 0, count: 1 << 20))
        #expect(driver.readSectors(sector, count: count).status == 1)
        #expect(driver.writeSectors(sector, [UInt8](repeating: 1, count: count)) == 1)
        #expect(driver.readSectors(0, count: 512).status == 0)
    }

    @Test func aReadOnlyDiskIsNotWritten() throws {
        let (driver, _) = try disk([UInt8](repeating: 5, count: 4096), isReadOnly: true)
        #expect(driver.features & BlockFeature.readOnly != 0)
        #expect(driver.writeSectors(0, [UInt8](repeating: 1, count: 512)) == 1)
        #expect(driver.zeroSectors(13, 0, 8) == 1)
        #expect(driver.readSectors(0, count: 512).bytes == [UInt8](repeating: 5, count: 512))
    }

    @Test func theSerialIsTold() throws {
        let (driver, _) = try disk([UInt8](repeating: 0, count: 4096))
        let answer = driver.request(0, [.readable(driver.blockHeader(8, 0)), .writable(20), .writable(1)])
        #expect(answer?.bytes == Array("serial-1".utf8) + [UInt8](repeating: 0, count: 13))
    }

    @Test(arguments: [UInt32(11), 13], [UInt32(0), 1])
    func zeroedRangesReadAsZeros(kind: UInt32, flags: UInt32) throws {
        let (driver, _) = try disk([UInt8](repeating: 9, count: 65536))
        #expect(driver.zeroSectors(kind, 8, 16, flags: flags) == 0)
        let found = driver.readSectors(0, count: 65536).bytes
        #expect(Array(found[..<4096]) == [UInt8](repeating: 9, count: 4096))
        #expect(Array(found[4096..<12288]) == [UInt8](repeating: 0, count: 8192))
        #expect(Array(found[12288...]) == [UInt8](repeating: 9, count: 53248))
        #expect(driver.zeroSectors(kind, 120, 16) == 1)
        #expect(driver.zeroSectors(kind, 0, 8, flags: 2) == 2)
    }

    @Test func unknownRequestsAreUnsupported() throws {
        let (driver, _) = try disk([UInt8](repeating: 0, count: 4096))
        #expect(driver.request(0, [.readable(driver.blockHeader(99, 0)), .writable(1)])?.bytes == [2])
    }

    @Test func requestsWithoutHeaderOrStatusNeedAReset() throws {
        let (driver, _) = try disk([UInt8](repeating: 0, count: 4096))
        #expect(driver.request(0, [.readable([0, 0, 0, 0])]) == nil)
        #expect(driver.needsReset)
        driver.write(MMIORegister.status, 0)
        driver.start()
        #expect(driver.readSectors(0, count: 512).status == 0)
    }
}
