import CLinux

@testable import Functions

/// Feeds libFuzzer's inputs to what the gateway reads from clients and from its own files: the first byte chooses.
@main struct FuzzGateway {
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
    switch first % 7 {
    case 0: create(rest)
    case 1: _ = try? JSONBody.decode(SettingsRequest.self, rest)
    case 2: record(rest)
    case 3: entry(rest)
    case 4: log(rest)
    case 5: code(rest)
    default: names(rest)
    }
    return 0
}

/// A body of `CreateFunction`: what is taken must be applicable and checkable.
private func create(_ bytes: [UInt8]) {
    guard let request = try? JSONBody.decode(CreateRequest.self, bytes) else { return }
    try? request.settings.check()
    var settings = FunctionSettings(runtime: "")
    request.settings.apply(to: &settings)
    try? SettingsCheck.check(settings)
}

/// A file of the catalogue: what is taken names no file elsewhere.
private func record(_ bytes: [UInt8]) {
    guard case .success(let record) = Catalogue.decode(bytes, name: "f") else { return }
    precondition(record.name == "f" && !record.codeFile.contains("/"))
}

/// An entry of the event log behind a right checksum: what is read is written the same.
private func entry(_ bytes: [UInt8]) {
    let checksum = CRC32C.checksum(bytes)
    var entry = withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { Array($0) }
    entry += withUnsafeBytes(of: checksum.littleEndian) { Array($0) } + bytes
    guard let (record, end) = EventCodec.decode(entry[...]) else { return }
    precondition(end == entry.count)
    precondition(EventCodec.decode(EventCodec.encode(record)[...])?.record == record)
}

private func log(_ bytes: [UInt8]) {
    let (_, end) = EventLog.read(Array("AURORAEVENTLOG01".utf8) + bytes)
    precondition(end <= bytes.count + 16)
}

/// A function's code: what is taken stays inside of the archive and of its limits, and becomes a stream of the length it tells.
private func code(_ bytes: [UInt8]) {
    guard let archive = try? ZipArchive(bytes) else { return }
    precondition(archive.entries.count <= ZipArchive.entriesMax)
    precondition(archive.entries.reduce(0) { $0 + $1.unpackedBytes } <= ZipArchive.unpackedBytesMax)
    for entry in archive.entries { precondition(entry.place.upperBound <= bytes.count && entry.path.first != UInt8(ascii: "/")) }
    precondition(CodeStream(archive).unpackedBytes.isMultiple(of: 512))
}

private func names(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    if let reference = FunctionReference(text) { precondition(FunctionName.isValid(reference.name)) }
    if let decoded = PercentEncoding.decode(text[...].utf8) {
        precondition(PercentEncoding.decode(PercentEncoding.encode(decoded)[...].utf8) == decoded)
    }
    _ = ListenAddress(text)
}
