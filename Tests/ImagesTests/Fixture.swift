import CLinux
import FoundationEssentials
import Linux

@testable import Images

/// A data directory of its own for one test, and recipes that the test writes; removed when the fixture goes away.
final class Fixture: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/aurora-images-test-\(UUID().uuidString)"
        try Files.makeDirectory(path)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// What a recipe for an image must leave, with a root file of 8 KiB.
    static let goodImage = """
        truncate -s 8192 "$1/root.ext4"
        printf 'base-files 12.4\\nlibc6 2.36-9\\n' > "$1/packages"

        """

    /// Recipes whose image script is `set -eu` and this.
    func recipes(image script: String) -> Recipes {
        Recipes(files: ["apt.sh": [], "base/build-image.sh": Array("set -eu\n\(script)".utf8)])
    }

    func images(_ script: String = Fixture.goodImage) -> ImageStore { ImageStore(dataPath: path, recipes: recipes(image: script)) }

    /// Recipes for a kernel that apply a function to the bytes of a valid boot image first.
    func kernels(_ change: (inout [UInt8]) -> Void = { _ in }, version: String = "6.1.0-1") throws -> KernelStore {
        var image = try Fixture.bootImage(at: path)
        change(&image)
        try Files.write(image, to: "\(path)/vmlinuz")
        let fetch = """
            [ "$1" = fetch ] || exit 1
            mkdir -p "$2/root/boot"
            cp "\(path)/vmlinuz" "$2/root/boot/vmlinuz-test"
            echo test > "$2/release"
            echo "linux-image-test \(version)" > "$2/packages"
            """
        return KernelStore(
            dataPath: path,
            recipes: Recipes(files: [
                "kernel/fetch.sh": Array("set -eu\n\(fetch)\n".utf8),
                "kernel/modules.sh": Array("mkdir \"$3\"; : > \"$3/a.ko\"; echo a.ko > \"$3/list\"; : > \"$3/extra\"\n".utf8),
                "module/build-module.sh": Array(": > \"$4\"\n".utf8),
            ]))
    }

    /// A boot image that holds a (nearly empty) x86-64 ELF file of 1 MiB, compressed with gzip.
    private static func bootImage(at path: String) throws -> [UInt8] {
        var elf = [UInt8](repeating: 0, count: 1 << 20)
        elf.replaceSubrange(0..<6, with: [0x7f, 0x45, 0x4c, 0x46, 2, 1])
        elf[18] = 62
        try Files.write(elf, to: "\(path)/elf")
        _ = try ChildProcess(command: ["gzip", "-nc"], input: "\(path)/elf", output: "\(path)/elf.gz", log: "\(path)/gzip.log").run()
        let payload = try Files.read("\(path)/elf.gz", lengthMax: 1 << 20)
        var image = BootImageBytes(magic: [], payloadLength: payload.count)
        image.bytes.replaceSubrange(1040..<1040 + payload.count, with: payload)
        return image.bytes
    }

    /// Names in a directory of the data directory, lock files left out: they stay by design.
    func names(_ directory: String) throws -> [String] {
        try Files.names(in: "\(path)/\(directory)").filter { !$0.hasPrefix(".lock-") }
    }

    func write(_ text: String, to file: String) throws {
        let target = "\(path)/\(file)"
        try Files.makeDirectory(String(target[..<(target.lastIndex(of: "/") ?? target.endIndex)]))
        try Files.write(Array(text.utf8), to: target)
    }
}

/// A progress that nobody looks at.
let silent: BuildProgress = { _ in }
