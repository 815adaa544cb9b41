import CLinux
import Linux

@testable import AuroraVMM
@testable import Images

/// Feeds libFuzzer's inputs to everything that reads kernels and images from files: the first byte chooses the reader.
@main struct FuzzFiles {
    static func main() {
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv
        exit(fuzzerRunDriver(&count, &arguments, fuzzOne))
    }
}

@_extern(c, "LLVMFuzzerRunDriver")
private func fuzzerRunDriver(
    _ count: UnsafeMutablePointer<Int32>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

private func fuzzOne(_ data: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    let bytes = Array(UnsafeBufferPointer(start: data, count: count))
    guard let first = bytes.first else { return 0 }
    let rest = Array(bytes.dropFirst())
    switch first % 4 {
    case 0: fuzzBootImage(rest)
    case 1: fuzzELF(rest)
    case 2: _ = try? Manifest.decode(ImageManifest.self, kind: ImageManifest.kind, schema: ImageManifest.schema, rest)
    default: _ = try? Manifest.decode(KernelManifest.self, kind: KernelManifest.kind, schema: KernelManifest.schema, rest)
    }
    return 0
}

/// A payload that is accepted lies inside the file.
private func fuzzBootImage(_ bytes: [UInt8]) {
    guard let image = try? BootImage(parsing: bytes) else { return }
    guard !image.payload.isEmpty, image.payload.upperBound <= bytes.count, BootImage.unpackedSizes.contains(image.unpackedSize) else {
        print("payload \(image.payload) of \(bytes.count) bytes")
        abort()
    }
}

/// A kernel that is accepted has segments inside its file, and loads or is refused by a memory of 16 MiB.
private func fuzzELF(_ bytes: [UInt8]) {
    guard let file = try? Mapping.anonymous(count: max(4096, (bytes.count + 4095) & ~4095), what: "input") else { return }
    file.bytes.copyBytes(from: bytes)
    guard let kernel = try? KernelImage(file: file, fileBytes: bytes.count, name: "input") else { return }
    for segment in kernel.segments where segment.offset < 0 || segment.fileBytes < 0 || segment.offset > bytes.count - segment.fileBytes {
        print("segment \(segment) of \(bytes.count) bytes")
        abort()
    }
    guard let mapping = try? Mapping.anonymous(count: 16 << 20, what: "guest memory") else { return }
    try? kernel.load(into: GuestMemory(regions: [GuestMemory.Region(start: GuestAddress(0), mapping: mapping)]))
}
