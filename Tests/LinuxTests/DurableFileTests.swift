import Foundation
import Linux
import Testing

@Suite struct DurableFileTests {
    let path = FileManager.default.temporaryDirectory.appending(path: "aurora-files-\(UUID().uuidString.prefix(8))").path

    @Test func replacesAndReads() throws {
        try PrivateDirectory.create(path)
        defer { try? FileTree.remove(path) }
        let file = "\(path)/a"
        #expect(try DurableFile.read(file, bytesMax: 10) == nil)
        try DurableFile.replace(file, with: [1, 2, 3])
        try DurableFile.replace(file, with: [4], flushesDirectory: false)
        #expect(try DurableFile.read(file, bytesMax: 10) == [4])
        #expect(try FileTree.names(in: path) == ["a"])
        try DurableFile.replace(file, with: [UInt8](repeating: 7, count: 11))
        let error = #expect(throws: SystemError.self) { try DurableFile.read(file, bytesMax: 10) }
        #expect(error?.errno.rawValue == EFBIG)
        let attributes = try FileManager.default.attributesOfItem(atPath: file)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
    }

    @Test func failureLeavesTheOldFileAndNothingElse() throws {
        try PrivateDirectory.create("\(path)/a/inner")
        defer { try? FileTree.remove(path) }
        // A directory that holds something cannot be renamed over.
        #expect(throws: SystemError.self) { try DurableFile.replace("\(path)/a", with: [1]) }
        #expect(try FileTree.names(in: path) == ["a"])
    }
}

@Suite struct PrivateDirectoryTests {
    let path = FileManager.default.temporaryDirectory.appending(path: "aurora-private-\(UUID().uuidString.prefix(8))").path

    private func fault(_ path: String, _ others: PrivateDirectory.Others = .mayNothing) -> PrivateDirectory.Fault? {
        do throws(PrivateDirectory.Fault) { try PrivateDirectory.check(path, others) } catch { return error }
        return nil
    }

    @Test func ownClosedDirectoryIsTaken() throws {
        defer { try? FileTree.remove(path) }
        #expect(fault(path) == nil, "one that is not there is nobody's")
        try PrivateDirectory.ensure("\(path)/inner")
        #expect(fault("\(path)/inner") == nil)
        try PrivateDirectory.ensure("\(path)/inner")
    }

    @Test(arguments: [0o777, 0o770, 0o707, 0o750, 0o701] as [mode_t])
    func openDirectoryIsRefused(_ mode: mode_t) throws {
        try PrivateDirectory.create(path)
        defer { try? FileTree.remove(path) }
        #expect(chmod(path, mode) == 0)
        #expect(fault(path) == .open(path, mode: mode))
        #expect((fault(path, .mayRead) == nil) == (mode & 0o022 == 0))
        PrivateDirectory.tighten(path)
        #expect(fault(path) == nil)
    }

    @Test func linksAndFilesAreRefused() throws {
        try PrivateDirectory.create(path)
        defer { try? FileTree.remove(path) }
        #expect(symlink(path, "\(path)/link") == 0)
        #expect(fault("\(path)/link") == .noDirectory("\(path)/link"))
        try DurableFile.replace("\(path)/file", with: [])
        #expect(fault("\(path)/file") == .noDirectory("\(path)/file"))
    }

    @Test(.enabled(if: geteuid() == 0, "only root can give a directory away")) func foreignDirectoryIsRefused() throws {
        try PrivateDirectory.create(path)
        defer { try? FileTree.remove(path) }
        #expect(chown(path, 65534, 65534) == 0)
        #expect(fault(path) == .foreign(path, owner: 65534))
        #expect(chmod(path, 0o777) == 0)
        PrivateDirectory.tighten(path)
        #expect(fault(path) == .foreign(path, owner: 65534))
    }
}
