-- The shortlist is empty when the table would be; a failure here keeps the old table in place.
with

shortlisted as (

    select count(*) as recommendation_count
    from {{ ref('int_product_pairs_shortlisted') }}

)

select * from shortlisted
where recommendation_count = {{ '-1' if flags.EMPTY else '0' }} -- with --empty there are no rows
