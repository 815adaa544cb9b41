import Glibc
import Store

/// Commits checkpoints whose contents follow from their numbers, so that whoever looks later needs no notes to know them.
struct ExerciseWriter {
    private static let pages: UInt64 = 64
    private static let kept: UInt64 = 12

    private let store: Store
    private let stream: String
    private let log: Int32
    private let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)

    init(disk: String, runtime: String, stream: String, log: String) throws {
        store = try Store.open(try FileDisk.open(disk), memory: .directory(runtime), indexBytes: 1 << 20)
        self.stream = stream
        self.log = open(log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    }

    func run() throws {
        while true {
            let writer = try openStream()
            for _ in 0..<Int.random(in: 20...200) { try commit(writer) }
            // In good order now and then; else as if the process had died.
            if Bool.random() { try writer.finish() }
        }
    }

    private func openStream() throws -> StreamWriter {
        do throws(StoreError) { return try store.writer(for: stream) } catch {
            guard case .noStream = error else { throw error }
            return try store.createStream(name: stream, time: 1)
        }
    }

    private func commit(_ writer: StreamWriter) throws {
        let number = writer.lastNumber + 1
        try writer.begin(number)
        for index in stride(from: number % 8, to: Self.pages, by: 8) {
            guard let key = PageKey(map: 0, page: index) else { continue }
            ExercisePage.fill(page, index: index, number: number)
            try writer.add([PageInput(key: key, bytes: UnsafeRawPointer(page))])
        }
        let state = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 200)
        let failure: StoreError? = state.withUnsafeBytes { bytes in
            do throws(StoreError) { _ = try writer.close(state: bytes, name: "", time: number) } catch { return error }
            return nil
        }
        if let failure { throw failure }
        guard number % 3 == 0 else { return }
        let durable = try writer.flush(upTo: number)
        acknowledge(durable)
        if number % 30 == 0 {
            let old = try writer.history().map(\.number).filter { $0 + Self.kept < number && $0 % 64 != 0 }
            if !old.isEmpty { try writer.drop(old) }
        }
    }

    private func acknowledge(_ number: UInt64) {
        withUnsafeBytes(of: number) { _ = write(log, $0.baseAddress, 8) }
    }
}

/// What a page holds after a checkpoint.
enum ExercisePage {
    /// Page `index` changes at each number that leaves the same rest by eight; streams share what they change to.
    static func fill(_ page: UnsafeMutableRawPointer, index: UInt64, number: UInt64) {
        var value = (number / 8 % 16) &* 0x9E37_79B9_7F4A_7C15 &+ index
        for offset in stride(from: 0, to: 4096, by: 8) {
            value = value &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            page.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
        }
    }
}
