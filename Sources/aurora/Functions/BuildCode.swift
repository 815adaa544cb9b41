import AgentClient
import AgentProtocol
import CLinux
import Functions
import Linux

/// The code of a function on its way into the machine: a ZIP archive, of which the host reads nothing but the structure.
struct BuildCode {
    /// The most bytes of a packed archive (Lambda's limit).
    static let packedBytesMax = 50 << 20
    /// The longest that unpacking may take in a guest, seconds.
    private static let seconds = 300
    /// Where the guest's shell notes how `gzip` ended, which the end of a pipe does not tell.
    private static let note = "/run/unpacked"
    /// Turns files into the symbolic links whose targets they hold; their paths are lines of the input.
    private static let linking =
        "while IFS= read -r name; do target=$(cat \"./$name\" && echo .) && ln -sfn -- \"${target%.}\" \"./$name\" || exit 1; done"

    private let archive: ZipArchive

    /// Reads an archive's structure.
    ///
    /// - Throws: `FunctionBuildError.badCode`.
    init(_ path: String) throws(FunctionBuildError) {
        let bytes: [UInt8]
        do { bytes = try FnArchive.readAll(path, what: "It", bytesMax: BuildCode.packedBytesMax) } catch {
            throw .badCode("\(path) cannot be read: \(error)")
        }
        do throws(ZipArchive.Refusal) { archive = try ZipArchive(bytes) } catch { throw .badCode(error.description) }
    }

    /// Has the code unpacked in the guest, by its own `gzip` and `tar`: whatever they make of it, it is that guest's.
    ///
    /// - Throws: `FunctionBuildError.badCode`, `.machine`.
    func unpack(in machine: BuildMachine) throws {
        let stream = CodeStream(archive)
        // What is more than the archive's directory says is cut off, before it can fill the disk.
        let line =
            "{ gzip -dc; echo $? >\(BuildCode.note); } | head -c \(stream.unpackedBytes) | tar --no-same-owner -xf - "
            + "&& read status <\(BuildCode.note) && rm \(BuildCode.note) && exit \"$status\""
        try BuildCode.run(line, stream.bytes, machine)
        if !stream.links.isEmpty { try BuildCode.run(BuildCode.linking, stream.links, machine) }
    }

    private static func run(_ line: String, _ input: [UInt8], _ machine: BuildMachine) throws {
        let request = StartRequest(arguments: ["sh", "-c", Text(line)], directory: "/var/task", wantsInput: true)
        let (status, _, error) = try ExecRelay.collect(
            try machine.agent().start(request), input: input, outputBytesMax: 1 << 20, timeout: .seconds(seconds))
        guard status != ExitStatus(.code, 0) else { return }
        let said = String(decoding: error.prefix(500), as: UTF8.self)
        throw FunctionBuildError.badCode("it cannot be unpacked: \(said.isEmpty ? "its entries are not what its directory says" : said)")
    }
}
