import CLinux
import Linux

@testable import Images

/// Feeds libFuzzer's inputs to what `aurora image import` reads: the first byte chooses the reader.
@main struct FuzzImport {
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
    let rest = Array(bytes.dropFirst().prefix(1 << 16))
    switch first % 4 {
    case 0: layer(rest)
    case 1: image(rest, isSaved: false)
    case 2: image(rest, isSaved: true)
    default: names(rest)
    }
    return 0
}

/// A tar archive in memory whose headers all have the right checksum.
private struct Archive: ByteSource {
    let bytes: [UInt8]
    var count: Int { bytes.count }

    func read(at offset: Int, count: Int) throws(ImportRefusal) -> [UInt8] {
        guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else {
            print("read of \(count) bytes at \(offset) of \(bytes.count)")
            abort()
        }
        var part = Array(bytes[offset..<(offset + count)])
        // A block of zeros is the archive's end.
        guard count == TarHeader.blockBytes, part.contains(where: { $0 != 0 }) else { return part }
        part.replaceSubrange(148..<156, with: repeatElement(UInt8(ascii: " "), count: 8))
        let digits = String(part.reduce(0) { $0 + Int($1) }, radix: 8)
        part.replaceSubrange(148..<156, with: Array((String(repeating: "0", count: 7 - digits.count) + digits).utf8) + [0])
        return part
    }
}

/// A layer: contents lie inside the archive, and what the survey accepts stays inside the root and the limits.
private func layer(_ bytes: [UInt8]) {
    let archive = Archive(bytes: bytes)
    var reader = TarReader(archive)
    do throws(ImportRefusal) {
        while let entry = try reader.next() {
            guard entry.offset >= 0, entry.stored >= 0, entry.offset <= bytes.count, entry.stored <= bytes.count - entry.offset else {
                print("\(entry) of \(bytes.count) bytes")
                abort()
            }
            check(entry)
        }
    } catch {}
    guard let survey = try? LayerSurvey(archive, bytesMax: 4096, entriesMax: 16) else { return }
    precondition(survey.bytes + survey.headerBytes <= 4096 && survey.entries + survey.whiteouts <= 16)
}

private func check(_ entry: TarEntry) {
    guard let path = try? LayerPath(entry.path) else { return }
    let bad: [[UInt8]] = [[], Array(".".utf8), Array("..".utf8)]
    precondition(path.names.allSatisfy { !bad.contains($0) && !$0.contains(0) && !$0.contains(UInt8(ascii: "/")) })
    if let map = entry.sparse { precondition(map.pieces.allSatisfy { $0.count > 0 && $0.place + $0.count <= map.size }) }
    precondition(entry.attributes.kept.reduce(0) { $0 + $1.name.count + $1.value.count } <= ImportLimits.attributeBytesKept)
    guard case .remove(let names)? = try? path.whiteout else { return }
    precondition(names.allSatisfy { !bad.contains($0) })
}

/// The documents of an image, one after the other with a zero byte between them: the last digit of a blob's digest says which it is.
private struct Documents: BlobPlace {
    let file: FileBytes
    let isSaved: Bool
    var places: [Range<Int>] = []

    init(_ bytes: [UInt8], _ file: FileBytes, isSaved: Bool) {
        self.file = file
        self.isSaved = isSaved
        var start = 0
        for (index, byte) in bytes.enumerated() where byte == 0 {
            places.append(start..<index)
            start = index + 1
        }
        places.append(start..<bytes.count)
    }

    func part(_ path: String) throws(ImportRefusal) -> FileBytes? {
        _ = try LayerPath(Array(path.utf8))
        let number =
            switch path {
            case "oci-layout": 1
            case "index.json", "manifest.json": 0
            default: path.utf8.first { (48...57).contains($0) }.map { _ in Int(path.utf8.last ?? 48) - 48 } ?? 2
            }
        guard places.indices.contains(number) else { return nil }
        return file.part(at: places[number].lowerBound, count: places[number].count)
    }
}

/// The documents of an OCI layout or of what Docker saves: a plan that is made keeps to the limits.
private func image(_ bytes: [UInt8], isSaved: Bool) {
    let number = clinux_memfd_create("documents", 0)
    guard number >= 0 else { abort() }
    let descriptor = OwnedDescriptor(adopting: Int32(number))
    guard clinux_pwrite(Int32(number), bytes, bytes.count, 0) == bytes.count else { abort() }
    guard let file = try? FileBytes("/proc/self/fd/\(number)") else { abort() }
    var limits = ImportLimits()
    limits.layersMax = 8
    let planner = ImagePlanner(
        place: Documents(bytes, file, isSaved: isSaved), limits: limits, processor: .v2,
        verified: { (blob) throws(ImportRefusal) in blob.bytes },
        digest: { (_) throws(ImportRefusal) in
            guard let digest = ContentDigest("sha256:\(String(repeating: "0", count: 64))") else { throw ImportRefusal("no digest") }
            return digest
        })
    let plan = try? isSaved ? planner.savedImage(reference: nil) : planner.layout(tag: nil)
    _ = descriptor.rawValue
    guard let plan else { return }
    precondition(!plan.layers.isEmpty && plan.layers.count <= limits.layersMax)
}

/// Texts: references, digests, numbers, extended headers.
private func names(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    _ = try? ImageReference(text)
    if let digest = ContentDigest(text) { precondition(digest.description == text) }
    if let time = Decimal.time(bytes) { precondition(time.nanoseconds < 1_000_000_000) }
    if let number = Decimal.unsigned(bytes) { precondition(number >= 0) }
    var known: [TarExtension: [UInt8]] = [:]
    _ = ProcessorLevel(description: text)
    var attributes = TarAttributes()
    try? PaxRecords.parse(bytes, into: &known, attributes: &attributes)
}
