%% Another house's print of the same score: finer staff lines, heavier stems, beams, slurs and bar lines, and notes
%% wider apart, so that lines break elsewhere.  LilyPond reads this after the tagger of noteheads.

\layout {
  \context {
    \Score
    \override StaffSymbol.thickness = #0.7
    \override Stem.thickness = #1.9
    \override Beam.beam-thickness = #0.58
    \override Slur.thickness = #1.8
    \override Tie.thickness = #1.8
    \override BarLine.hair-thickness = #2.6
    \override SpacingSpanner.spacing-increment = #1.6
    \override SpacingSpanner.shortest-duration-space = #2.4
  }
}
