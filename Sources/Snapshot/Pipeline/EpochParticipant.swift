/// Something beside memory that belongs to every checkpoint of its group: a volume.
public protocol EpochParticipant: AnyObject, Sendable {
    /// The map of its pages, one or more; unique in its group.
    var map: Int { get }

    /// Fixes the contents that the epoch has, in the stop window: microseconds, no I/O, no failure.
    func freeze(_ epoch: EpochNumber)

    /// Hands over, when the guest runs again, some of the pages that changed between the freeze before and this one.
    ///
    /// Called with rising positions from zero until it returns nil, for each freeze, in order, unless the group fails.
    ///
    /// - Parameters:
    ///   - position: where the last call ended.
    ///   - pagesMax: pages at most, for which there are buffers.
    /// - Returns: the position to go on from; nil at the end.
    /// - Throws: what kept it from reading them; the epoch is then given up and the group stands still.
    func collect(_ epoch: EpochNumber, from position: Int, pagesMax: Int, into sink: any PageSink) throws -> Int?

    /// Hands over some pages of the contents as of now, for a backend that has nothing yet; zero pages are left out.
    ///
    /// Called with rising positions from zero while the guest runs, on another thread than the rest. A page that is
    /// written after this call began must be among those of a later `collect`.
    ///
    /// - Parameters:
    ///   - position: where the last call ended.
    ///   - pagesMax: pages at most, for which there are buffers: this thread is the one that others come back by.
    /// - Returns: the position to go on from; nil at the end.
    /// - Throws: what kept it from reading them.
    func stream(from position: Int, pagesMax: Int, into sink: any PageSink) throws -> Int?
}

/// Takes pages of a participant.
public protocol PageSink: AnyObject {
    /// Gives `fill` a buffer of `pageBytes` bytes for a page. Where nobody wants the page any more `fill` is not called.
    ///
    /// - Throws: what `fill` throws, or `PipelineError.volume` for more pages than were asked for.
    func add(page: Int, _ fill: (UnsafeMutableRawBufferPointer) throws -> Void) throws
}
