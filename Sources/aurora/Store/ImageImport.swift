import CLinux
import FoundationEssentials
import Groups
import Images
import Linux
import Store

/// Copies an image's root disk into the store, once: groups begin there, whatever number of them.
struct ImageImport {
    /// What an image's checkpoint says of itself.
    private struct Description: Codable, Equatable {
        let digest: String
        let bytes: Int
    }

    /// The map of the root disk.
    static let map: UInt16 = 1
    private static let chunkBytes = 4 << 20
    /// Another process may be importing the same image.
    private static let waitMilliseconds: Int64 = 300_000

    let access: StoreAccess
    let image: Image
    /// Called with the bytes that were looked at, and those there are.
    let progress: (Int, Int) -> Void

    init(access: StoreAccess, image: Image, progress: @escaping (Int, Int) -> Void) {
        self.access = access
        self.image = image
        self.progress = progress
    }

    /// The checkpoint of the image as it is now.
    func ensure() throws -> CheckpointReader {
        let stream = GroupDirectory.streamName(image: image.name.description)
        let wanted = Description(digest: image.manifest.rootSHA256, bytes: image.manifest.rootSize)
        let deadline = clinux_monotonic_milliseconds() + ImageImport.waitMilliseconds
        while true {
            if let reader = try current(stream, wanted) { return reader }
            do throws(StoreError) {
                let writer = try open(stream)
                // Whoever held the stream before may have done it.
                if let reader = try? current(stream, wanted) { return reader }
                let result = Result { try write(wanted, stream, writer) }
                try writer.finish()
                do { try result.get() } catch let error as StoreError { throw error } catch {
                    throw StoreError.invalid(what: "image \(image.name)", reason: "\(error)")
                }
            } catch {
                guard error.isTransient, clinux_monotonic_milliseconds() < deadline else { throw error }
                usleep(100_000)
            }
        }
    }

    private func current(_ stream: String, _ wanted: Description) throws -> CheckpointReader? {
        let reader: CheckpointReader
        do throws(StoreError) { reader = try access.store.checkpoint(stream: stream, .latest) } catch .noStream {
            return nil
        } catch .noCheckpoint { return nil }
        let found = try? JSONDecoder().decode(Description.self, from: Data(try reader.state(bytesMax: 4096)))
        return found == wanted ? reader : nil
    }

    private func open(_ stream: String) throws(StoreError) -> StreamWriter {
        do throws(StoreError) { return try access.store.writer(for: stream) } catch .noStream {
            return try access.store.createStream(name: stream, time: UInt64(clamping: Timestamp.wallClockNanoseconds()))
        }
    }

    private func write(_ wanted: Description, _ stream: String, _ writer: StreamWriter) throws {
        let former = writer.lastNumber == 0 ? nil : try access.store.checkpoint(stream: stream, .latest)
        try writer.begin(writer.lastNumber + 1)
        do {
            // Of an older version of the image, what the new one does not have becomes zero.
            var stale = Set(try former?.pages(inMap: ImageImport.map).map(\.key) ?? [])
            try copy(writer) { stale.remove($0) }
            try writer.add(stale.map { PageInput(key: $0, bytes: nil) })
            let bytes = [UInt8](try JSONEncoder().encode(wanted))
            let time = UInt64(clamping: Timestamp.wallClockNanoseconds())
            // As a result: a typed error thrown through this closure breaks the compiler (Swift 6.3.1).
            let closed: StoreError? = bytes.withUnsafeBytes { state in
                do throws(StoreError) { _ = try writer.close(state: state, time: time) } catch { return error }
                return nil
            }
            if let closed { throw closed }
            try writer.flush()
        } catch {
            writer.abandon()
            throw error
        }
    }

    /// Adds all pages of the file that are not in a hole.
    private func copy(_ writer: StreamWriter, _ added: (PageKey) -> Void) throws {
        let path = image.rootPath
        let file = try OwnedDescriptor.open(path, O_RDONLY)
        let number = file.rawValue
        let total = max(0, Int(clinux_file_bytes(path)))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ImageImport.chunkBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var offset = 0
        while offset < total {
            let data = Int(lseek(number, off_t(offset), SEEK_DATA))
            if data < 0 { break }
            offset = data / 4096 * 4096
            let count = min(buffer.count, total - offset)
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
            try systemCall("read", path) { clinux_pread(number, buffer.baseAddress, count, Int64(offset)) }
            var inputs: [PageInput] = []
            for start in stride(from: 0, to: count, by: 4096) {
                guard let key = PageKey(map: ImageImport.map, page: UInt64((offset + start) / 4096)) else { continue }
                inputs.append(PageInput(key: key, bytes: buffer.baseAddress.map { UnsafeRawPointer($0 + start) }))
                added(key)
            }
            try writer.add(inputs)
            offset += buffer.count
            progress(min(offset, total), total)
        }
    }
}

extension StoreError {
    /// Whether somebody else was faster or is at it.
    var isTransient: Bool {
        switch self {
        case .streamInUse, .streamExists: true
        default: false
        }
    }
}
