internal import CLinux
internal import Linux

/// What a build tells while it goes on.
public enum BuildEvent: Sendable, Hashable {
    /// A step began: a short phrase that is safe to print.
    case step(String)
    /// The step goes on; what it has written so far, in bytes on the disk.
    case written(Int)
}

/// Told what a build is doing; it may be called on another thread than the build's own.
public typealias BuildProgress = @Sendable (BuildEvent) -> Void

/// Tells what a recipe is doing while it runs: the steps it names in its log, and the bytes below the build's directory.
struct RecipeWatch: Sendable {
    let log: String
    let directory: String
    let progress: BuildProgress

    private static let lookMilliseconds: Int32 = 500
    /// Adding up what is there takes a while where there are many files.
    private static let looksPerSum = 6
    private static let chunkBytesMax = 64 << 10
    private static let stepLengthMax = 100

    /// Runs the body, and watches until it has ended.
    func during<Result>(_ body: () throws(ImageError) -> Result) throws(ImageError) -> Result {
        let done: EventDescriptor
        let thread: Thread
        do throws(SystemError) {
            done = try EventDescriptor()
            let start = (try? Files.size(log).bytes) ?? 0
            thread = try Thread(name: "build-watch") { watch(from: start, until: done) }
        } catch { throw .system(error) }
        defer {
            done.signal()
            thread.join()
        }
        return try body()
    }

    private func watch(from start: Int, until done: EventDescriptor) {
        var position = start
        var rest: [UInt8] = []
        var looks = 0
        while true {
            var entry = pollfd(fd: done.rawValue, events: Int16(POLLIN), revents: 0)
            let isDone = clinux_poll(&entry, 1, Self.lookMilliseconds) > 0
            rest += read(&position)
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                if let step = Self.step(rest[..<end]) { progress(.step(step)) }
                rest.removeFirst(end + 1)
            }
            rest = rest.suffix(Self.chunkBytesMax)
            if isDone { return }
            looks += 1
            if looks % Self.looksPerSum == 0 { progress(.written(DiskUsage.bytes(directory))) }
        }
    }

    /// What has been added to the log, as far as it is looked at in one go.
    private func read(_ position: inout Int) -> [UInt8] {
        guard let file = try? OwnedDescriptor.open(log, O_RDONLY) else { return [] }
        var bytes = [UInt8](repeating: 0, count: Self.chunkBytesMax)
        let start = Int64(position)
        let count = max(0, bytes.withUnsafeMutableBytes { clinux_pread(file.rawValue, $0.baseAddress, $0.count, start) })
        position += count
        return Array(bytes.prefix(count))
    }

    /// The step that a line of a recipe's log names: "I: doing something...".
    static func step(_ line: some Collection<UInt8>) -> String? {
        let text = String(decoding: line, as: UTF8.self)
        guard text.hasPrefix("I: "), text.hasSuffix("...") else { return nil }
        return String(text.dropFirst(3).dropLast(3).unicodeScalars.prefix(stepLengthMax)).visibleLine
    }
}
